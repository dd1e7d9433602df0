package certificate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// Record is what is remembered of one name: a cache and a history, rebuilt
// empty when it is lost.
type Record struct {
	Host      string           `json:"host"`
	Preflight preflight.Result `json:"preflight,omitzero"`
	// SoftSince is since when preflight has lacked nothing but a proof.
	SoftSince time.Time `json:"soft_since,omitzero"`
	Order     *Order    `json:"order,omitempty"`
	Issued    *Issued   `json:"issued,omitempty"`
	Renewal   Renewal   `json:"renewal,omitzero"`
	// Tries are the orders begun lately, Failures what went wrong since the last
	// certificate; the newest last.
	Tries    []time.Time `json:"tries,omitempty"`
	Failures []Failure   `json:"failures,omitempty"`
	Renew    bool        `json:"renew,omitempty"` // the owner asks for a new one now
	Note     string      `json:"note,omitempty"`  // what the owner should know though it stops nothing
}

// Order is one that has been begun and not come to an end. It is kept so that a
// crash costs no second one.
type Order struct {
	Directory string    `json:"directory"`
	URL       string    `json:"url"`
	Key       string    `json:"key"` // PEM
	Begun     time.Time `json:"begun"`
	Replaces  string    `json:"replaces,omitempty"` // the predecessor that it names (RFC 9773 section 5)
}

// Issued is the last certificate that an order of ours led to.
type Issued struct {
	Directory string    `json:"directory"`
	Serial    string    `json:"serial"`
	At        time.Time `json:"at"`
	Replaces  string    `json:"replaces,omitempty"` // its predecessor, as the order named it (RFC 9773 section 5)
}

// Renewal is what the authority said about when to renew (RFC 9773).
type Renewal struct {
	Serial      string    `json:"serial"`
	Asked       time.Time `json:"asked"`
	Again       time.Time `json:"again"` // when to ask again
	Start       time.Time `json:"start,omitzero"`
	End         time.Time `json:"end,omitzero"`
	Chosen      time.Time `json:"chosen,omitzero"` // zero: no usable answer
	Explanation string    `json:"explanation,omitempty"`
	Error       string    `json:"error,omitempty"`
}

// Failure is one try that led to nothing.
type Failure struct {
	At    time.Time     `json:"at"`
	Wait  time.Duration `json:"wait"`  // before the next try
	Order bool          `json:"order"` // the authority counts it
	Why   string        `json:"why"`
}

const (
	day       = 24 * time.Hour
	maxMemory = 50 // tries and failures kept
)

// recordPath is where the record of a name lies.
func (p Paths) recordPath(host string) string {
	return filepath.Join(p.State, "names", host+".json")
}

// loadRecord reads a record. One that cannot be read is set aside as .bad and
// begun anew: it is a cache.
func (p Paths) loadRecord(host string, now time.Time) (Record, error) {
	path := p.recordPath(host)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{Host: host}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading the record of %s: %w", host, err)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Host != host {
		if err := os.Rename(path, path+".bad"); err != nil {
			return Record{}, fmt.Errorf("setting aside the record of %s: %w", host, err)
		}
		return Record{Host: host}, nil
	}
	if r.clamp(now) {
		return r, p.saveRecord(r)
	}
	return r, nil
}

func (p Paths) saveRecord(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Host, err)
	}
	if err := os.MkdirAll(filepath.Dir(p.recordPath(r.Host)), 0o700); err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Host, err)
	}
	if err := writeFile(p.recordPath(r.Host), data, 0o600); err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Host, err)
	}
	return nil
}

// clamp moves to now whatever a clock that was ahead has dated later, so that
// no wait is longer than it was meant to be. It says whether anything moved.
func (r *Record) clamp(now time.Time) bool {
	moved := false
	fix := func(t *time.Time) {
		if t.After(now.Add(time.Minute)) {
			*t, moved = now, true
		}
	}
	for i := range r.Failures {
		fix(&r.Failures[i].At)
	}
	for i := range r.Tries {
		fix(&r.Tries[i])
	}
	fix(&r.Preflight.At)
	fix(&r.SoftSince)
	if r.Renewal.Asked.After(now.Add(time.Minute)) {
		r.Renewal.Asked, r.Renewal.Again, moved = now, now, true
	}
	return moved
}

// fail remembers a failure and when to try again. A wait that the authority
// asked for is obeyed when it is longer than ours.
func (r *Record) fail(now time.Time, why error, counted bool, asked time.Duration) {
	n := 0
	for _, f := range r.Failures {
		if f.Order == counted {
			n++
		}
	}
	f := Failure{At: now, Order: counted, Why: why.Error()}
	if counted {
		schedule := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute}
		if n < len(schedule) {
			f.Wait = schedule[n]
		} else {
			// Not everybody at the same second of the day.
			f.Wait = 22*time.Hour + rand.N(4*time.Hour)
		}
	} else {
		// It cost nothing, and a network that comes back should be noticed.
		f.Wait = min(time.Minute<<min(n, 4), 10*time.Minute)
	}
	f.Wait = max(f.Wait, min(asked, 31*day))
	r.Failures = append(r.Failures, f)
	r.Failures = r.Failures[max(0, len(r.Failures)-maxMemory):]
}

// try remembers that an order is begun.
func (r *Record) try(now time.Time) {
	r.Tries = append(r.Tries, now)
	r.Tries = r.Tries[max(0, len(r.Tries)-maxMemory):]
}

// patience is until when failures forbid another try.
func (r Record) patience() time.Time {
	var until time.Time
	if n := len(r.Failures); n > 0 {
		f := r.Failures[n-1]
		until = f.At.Add(f.Wait)
	}
	// Authorities lock a name out after five failed authorizations in an hour:
	// stay one below, whatever resets the schedule.
	var counted []time.Time
	for _, f := range r.Failures {
		if f.Order {
			counted = append(counted, f.At)
		}
	}
	slices.SortFunc(counted, time.Time.Compare)
	if n := len(counted); n >= 4 {
		if t := counted[n-4].Add(time.Hour); t.After(until) {
			until = t
		}
	}
	return until
}
