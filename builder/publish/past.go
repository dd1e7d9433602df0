package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Past is what the journal and this run know of one call.
type Past struct {
	At        time.Time       // of the last entry
	Open      bool            // an intent has no result: the outcome is unknown
	Did       bool            // the last result is that it was done
	Answer    json.RawMessage // of the last time it was done
	Tries     int             // in this run, since it last was done
	Times     int             // in this run
	NotBefore time.Time       // earliest time to ask again
	Failed    error           // for good, in this run
}

// An outcome is the data of a result in the journal.
type outcome struct {
	Outcome Outcome         `json:"outcome,omitempty"` // empty: done
	Answer  json.RawMessage `json:"answer,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// remember reads entries of one operation. What failed for good in an earlier
// run may be tried again in this one, so failures are not remembered.
func remember(entries []Entry) (map[string]Past, error) {
	past := map[string]Past{}
	for i, e := range entries {
		p := past[e.Call]
		p.At = e.At
		switch e.Kind {
		case Intent:
			p.Open = true
		case Result:
			var o outcome
			if err := json.Unmarshal(e.Data, &o); err != nil {
				return nil, fmt.Errorf("reading entry %d of the journal: %w", i+1, err)
			}
			p.Open = o.Outcome == Unknown
			if p.Did = o.Outcome == ""; p.Did {
				p.Answer = o.Answer
			}
		default:
			return nil, fmt.Errorf("reading entry %d of the journal: its kind is %q", i+1, e.Kind)
		}
		past[e.Call] = p
	}
	return past, nil
}

func answers(past map[string]Past) map[string]json.RawMessage {
	a := map[string]json.RawMessage{}
	for call, p := range past {
		if p.Answer != nil {
			a[call] = p.Answer
		}
	}
	return a
}

// tries is how often a step is asked for in one run before it counts as failed.
const tries = 8

// times is how often a step may be done in one run. It may be more than once,
// for others write indexes too; that many is two programs that do not agree.
const times = 50

// after says what a call's end means for the next look at it.
func (p Past) after(err error, now time.Time) Past {
	p.At = now
	if err == nil {
		// Should it not be seen as done, it is done again, less and less often.
		p.Open, p.Did, p.Tries, p.NotBefore = false, true, 0, now.Add(min(100*time.Millisecond<<min(p.Times, 10), poll))
		if p.Times++; p.Times >= times {
			p.Failed = fmt.Errorf("done %d times, and each time something undid it", times)
		}
		return p
	}
	p.Tries++
	p.Did = false
	// Doubling from a second up to two minutes.
	wait := min(time.Second<<min(p.Tries-1, 7), 2*time.Minute)
	var c *CallError
	switch {
	case !errors.As(err, &c):
		p.Open = true
	case c.Outcome == Failed:
		p.Open, p.Failed = false, err
	default:
		p.Open = c.Outcome == Unknown
		if c.After > 0 {
			wait = c.After
		}
	}
	p.NotBefore = now.Add(wait)
	if p.Failed == nil && p.Tries >= tries {
		p.Failed = fmt.Errorf("given up after %d tries: %w", tries, err)
	}
	return p
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
