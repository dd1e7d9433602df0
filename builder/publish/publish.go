// Package publish brings finished images to targets, in stages that can be
// interrupted anywhere and run again.
//
// [Run] is a loop: look at the target, decide by [Next], do one step, look
// again. What a step is about to do is journaled before, and what came of it
// after. The journal only helps to look: what the target shows decides. So it
// does not matter where an earlier run ended, or whether another runs at the
// same time.
//
// An image is what its bytes are. The same bytes under the same name are
// adopted, other bytes there are a [ConflictError], and nothing public is ever
// removed or replaced. Until the stage [Public] nobody sees anything.
//
// A target is one file here and one line in [Kinds]; the package publishtest
// holds what every target must pass.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prose-im/prose-image/builder/progress"
)

// A Config says what to publish where.
type Config struct {
	Image    Image
	Address  string        // of the target; see Kinds
	Target   Target        // instead of the one at Address
	Journal  Journal       // nil: nothing is remembered, which costs time but no safety
	Progress progress.Func // nil: nobody watches
	Patience time.Duration // longest wait for one thing; zero: two hours

	Now   func() time.Time                           // nil: time.Now
	Sleep func(context.Context, time.Duration) error // nil: really
}

// A Report is what became of it.
type Report struct {
	Operation string      `json:"operation"`
	Target    string      `json:"target"`
	Name      string      `json:"name"`
	Version   string      `json:"version"`
	Steps     int         `json:"steps"` // that this run did; zero: all was there
	Published []Reference `json:"published"`
	Failures  []Failure   `json:"failures,omitempty"`
}

// A Reference is where a part went.
type Reference struct {
	Part string `json:"part"`
	ID   string `json:"id"`
}

func (c *Config) fill() error {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	if c.Progress == nil {
		c.Progress = progress.Discard
	}
	if c.Patience == 0 {
		c.Patience = 2 * time.Hour
	}
	if c.Journal == nil {
		c.Journal = &Memory{}
	}
	if c.Target == nil {
		t, address, err := Open(c.Address)
		if err != nil {
			return err
		}
		c.Target, c.Address = t, address
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Run publishes. When some parts were published and others failed for good, the
// report comes with an [IncompleteError].
func Run(ctx context.Context, c Config) (*Report, error) {
	// 1. What is to be published, that it is what it says, and what that takes.
	plan, err := c.plan(ctx)
	if err != nil {
		return nil, err
	}

	// 2. What earlier runs know.
	r := &run{c: c, plan: plan, id: Operation(c.Address, c.Image)}
	entries, err := c.Journal.Entries(ctx, r.id)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if r.past, err = remember(entries); err != nil {
		return nil, err
	}
	for call, p := range r.past {
		if p.Open {
			// The process may have slept before it called: until now, then.
			p.At = c.Now()
			r.past[call] = p
		}
	}

	// 3. Look, decide, do.
	if err := r.loop(ctx); err != nil {
		return nil, err
	}

	// 4. What became of it.
	report := r.report()
	if err := report.err(c.Address); err != nil {
		return report, err
	}
	if n := len(entries); r.did > 0 || n > 0 && entries[n-1].Call != finished {
		err = r.journal(ctx, Step{Stage: Finish, Call: finished}, Result, outcome{})
	}
	return report, err
}

// plan fills in what c leaves open, reads the files, and asks the target.
func (c *Config) plan(ctx context.Context) ([]Step, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	if err := c.Image.Check(); err != nil {
		return nil, &BadImageError{err}
	}
	if err := checkFiles(ctx, c.Image); err != nil {
		return nil, err
	}
	return planOf(c.Target, c.Image)
}

// planOf asks for the plan and holds it to what Next relies on.
func planOf(t Target, img Image) ([]Step, error) {
	plan, err := t.Plan(img)
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	at, calls := 0, map[string]bool{}
	for _, s := range plan {
		for at < len(Stages) && Stages[at].Stage != s.Stage {
			at++
		}
		if at == len(Stages) || calls[s.Call] || s.Call == "" || s.Call == finished {
			return nil, fmt.Errorf("BUG: step %q of stage %q is out of order, or there twice", s.Call, s.Stage)
		}
		calls[s.Call] = true
	}
	return plan, nil
}

// A Preview is a plan and how much of it is there already.
type Preview struct {
	Operation string `json:"operation"`
	Target    string `json:"target"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Steps     []struct {
		Step
		State State `json:"state"`
	} `json:"steps"`
}

// Look is a dry run: it reads the files and the target and changes nothing.
// What is there under the image's name and is something else is a
// [ConflictError].
func Look(ctx context.Context, c Config) (*Preview, error) {
	plan, err := c.plan(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := c.Target.Look(ctx, c.Image, nil)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", c.Address, err)
	}
	p := &Preview{Operation: Operation(c.Address, c.Image), Target: c.Address, Name: c.Image.Name, Version: c.Image.Version}
	for _, s := range plan {
		state := seen[s.Call].State
		if state == "" {
			state = Absent
		}
		if state == Conflict {
			return nil, &ConflictError{Call: s.Call, Note: seen[s.Call].Note}
		}
		p.Steps = append(p.Steps, struct {
			Step
			State State `json:"state"`
		}{s, state})
	}
	return p, nil
}

// run is one [Run] on its way.
type run struct {
	c    Config
	id   string
	plan []Step
	past map[string]Past
	seen map[string]Seen
	did  int
}

func (r *run) loop(ctx context.Context) error {
	var (
		waiting  string    // what for
		since    time.Time // when that began
		failures int       // looks in a row that gave an error
	)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		seen, err := r.c.Target.Look(ctx, r.c.Image, answers(r.past))
		if err != nil {
			failures++
			var c *CallError
			if ctx.Err() != nil || errors.As(err, &c) && c.Outcome == Failed || failures >= tries {
				return fmt.Errorf("looking at %s: %w", r.c.Address, err)
			}
			p := Past{Tries: failures - 1}.after(err, r.c.Now())
			if err := r.c.Sleep(ctx, p.NotBefore.Sub(r.c.Now())); err != nil {
				return err
			}
			continue
		}
		failures, r.seen = 0, seen

		now := r.c.Now()
		m := Next(r.plan, r.seen, r.past, r.c.Target.Horizon(), now)
		if m.Kind != Wait {
			waiting = ""
		}
		switch m.Kind {
		case End:
			return nil
		case Stop:
			return &ConflictError{Call: m.Step.Call, Note: m.Why}
		case Wait:
			if waiting != m.Why {
				waiting, since = m.Why, now
				r.c.Progress(progress.Event{Stage: string(m.Step.Stage), Name: m.Step.Name(), State: progress.Started, Note: "waiting for " + m.Why})
			}
			if waited := now.Sub(since); waited > r.c.Patience {
				return &LateError{What: m.Why, Time: waited}
			}
			if err := r.c.Sleep(ctx, max(m.Until.Sub(now), time.Millisecond)); err != nil {
				return err
			}
		case RemoveTwins:
			for _, id := range m.Remove {
				s := Step{Stage: m.Step.Stage, Call: removal(id), Part: m.Step.Part, Again: true}
				err := r.do(ctx, s, func() (json.RawMessage, error) { return nil, r.c.Target.Remove(ctx, id) })
				if err != nil {
					return err
				}
				if failed := r.past[s.Call].Failed; failed != nil {
					return fmt.Errorf("removing %s, which was made twice: %w", id, failed)
				}
				// What went may be shown for a while: it is removed again then,
				// less and less often.
				if wait := r.past[s.Call].NotBefore.Sub(r.c.Now()); wait > 0 {
					if err := r.c.Sleep(ctx, wait); err != nil {
						return err
					}
				}
			}
		case DoStep:
			err := r.do(ctx, m.Step, func() (json.RawMessage, error) { return r.c.Target.Do(ctx, r.c.Image, m.Step, r.seen) })
			if err != nil {
				return err
			}
		}
	}
}

// do does one step between its two entries in the journal. Errors of the step
// are for Next to judge; what it returns ends the run.
func (r *run) do(ctx context.Context, s Step, call func() (json.RawMessage, error)) error {
	if err := r.journal(ctx, s, Intent, s); err != nil {
		return err
	}
	var answer json.RawMessage
	var failed error
	_ = r.c.Progress.Do(string(s.Stage), s.Name(), func() (int64, error) {
		answer, failed = call()
		return 0, failed
	})
	if failed != nil && ctx.Err() != nil {
		// Interrupted: what became of it, the next run will see.
		return context.Cause(ctx)
	}
	o := outcome{Answer: answer}
	if failed != nil {
		o = outcome{Outcome: Unknown, Error: failed.Error()}
		var c *CallError
		if errors.As(failed, &c) {
			o.Outcome = c.Outcome
		}
	} else {
		r.did++
	}
	if err := r.journal(ctx, s, Result, o); err != nil {
		return err
	}
	p := r.past[s.Call].after(failed, r.c.Now())
	if failed == nil {
		p.Answer = answer
	}
	r.past[s.Call] = p
	return nil
}

func (r *run) journal(ctx context.Context, s Step, kind EntryKind, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding an entry of the journal: %w", err)
	}
	err = r.c.Journal.Append(ctx, Entry{Operation: r.id, Stage: string(s.Stage), Call: s.Call, Kind: kind, Data: b, At: r.c.Now()})
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// report is made of the last look and what failed in this run.
func (r *run) report() *Report {
	rep := &Report{Operation: r.id, Target: r.c.Address, Name: r.c.Image.Name, Version: r.c.Image.Version, Steps: r.did, Published: []Reference{}}
	for _, s := range r.plan {
		if it := r.seen[s.Call]; it.State == Done {
			if s.Stage == Public {
				rep.Published = append(rep.Published, Reference{Part: s.Part, ID: it.ID})
			}
			continue
		}
		if err := r.past[s.Call].Failed; err != nil {
			rep.Failures = append(rep.Failures, Failure{Part: s.Part, Call: s.Call, Error: err.Error(), err: err})
		}
	}
	return rep
}

func (rep *Report) err(target string) error {
	if len(rep.Failures) == 0 {
		return nil
	}
	if len(rep.Published) == 0 {
		var errs []error
		for _, f := range rep.Failures {
			errs = append(errs, fmt.Errorf("%s: %w", f.Call, f.err))
		}
		return errors.Join(errs...)
	}
	e := &IncompleteError{Target: target, Failures: rep.Failures}
	for _, p := range rep.Published {
		e.Published = append(e.Published, p.Part)
	}
	return e
}
