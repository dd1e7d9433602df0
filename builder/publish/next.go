package publish

import (
	"fmt"
	"time"
)

// A Move is what the engine does next.
type Move struct {
	Kind   MoveKind
	Step   Step
	Remove []string  // ids, for RemoveTwins
	Until  time.Time // for Wait
	Why    string    // for people
}

// MoveKind tells moves apart.
type MoveKind string

// The moves.
const (
	DoStep      MoveKind = "do"
	RemoveTwins MoveKind = "remove twins"
	Wait        MoveKind = "wait"
	End         MoveKind = "end"  // nothing is left to do, or everything left failed
	Stop        MoveKind = "stop" // a conflict
)

// poll is how often a target is asked about what it is working on.
const poll = 10 * time.Second

// Next decides. It asks nobody: seen is what the target shows now, past what
// the journal and this run know, horizon is [Target.Horizon].
func Next(plan []Step, seen map[string]Seen, past map[string]Past, horizon time.Duration, now time.Time) Move {
	for _, s := range plan {
		if seen[s.Call].State == Conflict {
			return Move{Kind: Stop, Step: s, Why: seen[s.Call].Note}
		}
	}
	var (
		wait   = Move{Kind: End}
		lost   = map[string]bool{} // parts of which a step failed for good
		held   = map[string]bool{} // parts that wait; "" among them: all
		hidden = false             // a private step waits, so the gate stays shut
	)
	hold := func(s Step, until time.Time, why string) {
		held[s.Part] = true
		hidden = hidden || s.Stage.private()
		if wait.Kind == End || until.Before(wait.Until) {
			wait = Move{Kind: Wait, Step: s, Until: until, Why: why}
		}
	}
	for _, s := range plan {
		switch {
		case lost[""] || lost[s.Part] || s.Part == "" && len(lost) > 0:
			lost[s.Part] = true
			continue
		case held[""] || held[s.Part] || s.Part == "" && len(held) > 0, hidden && !s.Stage.private():
			// Whatever it is, something before it comes first.
			held[s.Part] = true
			continue
		}
		it, p := seen[s.Call], past[s.Call]
		switch it.State {
		case Done:
			if s.Again {
				continue
			}
			// Another process may have made one that is not to be seen yet.
			if settled := latest(it.Made, made(p)).Add(horizon); now.Before(settled) {
				hold(s, settled, fmt.Sprintf("%s to be seen by all", s.Call))
			} else if len(it.Twins) > 0 {
				return Move{Kind: RemoveTwins, Step: s, Remove: it.Twins, Why: "made twice"}
			}
		case Pending:
			if p.Failed != nil {
				lost[s.Part] = true
				continue
			}
			hold(s, now.Add(poll), s.Call)
		default:
			if p.Failed != nil {
				lost[s.Part] = true
				continue
			}
			if now.Before(p.NotBefore) {
				hold(s, p.NotBefore, fmt.Sprintf("the next try to %s", s.Call))
				continue
			}
			// It may have been done, and not be to be seen yet.
			if known := p.At.Add(horizon); !s.Again && (p.Open || p.Did) && now.Before(known) {
				hold(s, known, fmt.Sprintf("what became of %s", s.Call))
				continue
			}
			return Move{Kind: DoStep, Step: s}
		}
	}
	if wait.Kind == End && len(lost) == 0 {
		// What an earlier run began may still come to be seen, and must be
		// tidied up then.
		for _, s := range plan {
			if p := past[s.Call]; p.Open && now.Before(p.At.Add(horizon)) {
				hold(s, p.At.Add(horizon), fmt.Sprintf("what became of %s", s.Call))
			}
		}
	}
	return wait
}

// removal is the call that removes a twin.
func removal(id string) string { return "remove " + id }

// made is when a call may have made something, as this side knows.
func made(p Past) time.Time {
	if p.Open || p.Did {
		return p.At
	}
	return time.Time{}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
