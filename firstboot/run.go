package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/status"
)

// runLimit is how long one run may take: the Pod's limit and the certificates'
// after it. What is left then, the next run does.
const runLimit = 30 * time.Minute

// An agent is one run.
type agent struct {
	machine *machine
	out     io.Writer
	pod     *supervisor
	keeper  *certificate.Keeper
	tell    *teller
	alerts  *alerter
	failed  map[action]bool   // in this run
	tried   map[string]bool   // certificates' steps that failed once
	checked map[string]bool   // names that were looked at
	errs    map[string]string // by item: what went wrong last
}

func newAgent(ctx context.Context, m *machine, out io.Writer) *agent {
	a := &agent{machine: m, out: out, failed: map[action]bool{}, tried: map[string]bool{}, checked: map[string]bool{}, errs: map[string]string{}}
	a.pod = newSupervisor(ctx, m, a.logf)
	a.tell = &teller{machine: m, logf: a.logf}
	a.alerts = newAlerter(m, a.logf)
	return a
}

func (a *agent) logf(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }

// run looks, does what is missing, and returns when there is nothing to do at
// once. The timer runs it again.
func run(ctx context.Context, m *machine, out io.Writer) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("a run takes at most %v", runLimit))
	defer cancel()
	a := newAgent(ctx, m, out)
	defer a.alerts.wait(ctx)
	defer a.pod.wg.Wait()
	for {
		w, err := a.look(ctx)
		if err != nil {
			return errors.Join(err, a.tell.trouble(err))
		}
		s := next(w, a.failed)
		now := a.tell.status(ctx, w, s, a.errs)
		if !a.stillHolds(w, s) {
			if err := a.tell.publish(now, w); err != nil {
				a.logf("telling people: %v", err)
			}
			a.alerts.look(ctx, w, now)
		}
		if s.do == idle {
			if !w.pod.busy {
				return a.done(w, now)
			}
			if err := a.wait(ctx, s.until.Sub(w.now)); err != nil {
				return err
			}
			continue
		}
		a.logf("%s", s.what)
		if err := a.do(ctx, w, s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.logf("error: %v", err)
			a.fail(s, err)
		} else {
			delete(a.errs, s.key)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// stillHolds says whether what the run before has told holds until the Pod was
// looked at. Else a machine that is ready would be working for a moment in each
// run.
func (a *agent) stillHolds(w *world, s step) bool {
	if w.state.Ready.IsZero() || s.do != startPod && !(w.pod.busy && w.pod.doing == "") {
		return false
	}
	_, err := os.Stat(a.machine.path(statusPath))
	return err == nil
}

// fail remembers what went wrong. The same is not tried again in this run; what
// certificates learn from an authority or from DNS they remember themselves, and
// go on with the next name.
func (a *agent) fail(s step, err error) {
	a.errs[s.key] = err.Error()
	if s.do == keep {
		tried := string(s.cert.Action) + " " + s.cert.Host
		again := a.tried[tried]
		a.tried[tried] = true
		switch s.cert.Action {
		case certificate.CheckDNS, certificate.GetOne, certificate.AskRenewal, certificate.ReloadNGINX, certificate.ReloadProsody, certificate.CopyProsody:
			if !again {
				return
			}
		}
	}
	a.failed[s.do] = true
}

// done is the end of a run in which nothing is left to do at once.
func (a *agent) done(w *world, now status.Status) error {
	if now.State == status.Ready && w.state.Ready.IsZero() {
		w.state.Ready = w.now.UTC()
		return a.machine.saveState(w.state)
	}
	return nil
}

// wait ends when the Pod has changed, or when a look is due.
func (a *agent) wait(ctx context.Context, most time.Duration) error {
	t := time.NewTimer(max(min(most, 10*time.Second), time.Second))
	defer t.Stop()
	select {
	case <-a.pod.changed:
		// Steps of the Pod come together: one look for all of them.
		time.Sleep(200 * time.Millisecond)
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// lock keeps runs from each other. The kernel opens it when a run dies.
func (m *machine) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(m.path(runDir), 0o755); err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	f, err := os.OpenFile(m.path(runDir)+"/lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	for begin := time.Now(); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(begin) > time.Minute || ctx.Err() != nil {
			f.Close()
			return nil, fmt.Errorf("waiting for another prose-firstboot to end: %w", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
