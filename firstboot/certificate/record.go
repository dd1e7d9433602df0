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
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// Record is what is remembered of one name: a cache and a history, rebuilt
// empty when it is lost.
type Record struct {
	Host      string           `json:"host"`
	Preflight preflight.Result `json:"preflight,omitzero"`
	// For is what that look was for: settings may ask for another way since.
	For string `json:"for,omitempty"`
	// SoftSince is since when preflight has lacked nothing but a proof.
	SoftSince time.Time `json:"soft_since,omitzero"`
	// Rest is since when and how long the authority is left alone, after it did
	// not answer a question that precedes orders.
	Rest    Failure `json:"rest,omitzero"`
	Order   *Order  `json:"order,omitempty"`
	Issued  *Issued `json:"issued,omitempty"`
	Renewal Renewal `json:"renewal,omitzero"`
	// Tries are the orders begun lately, Failures what went wrong since the last
	// certificate; the newest last.
	Tries    []time.Time `json:"tries,omitempty"`
	Failures []Failure   `json:"failures,omitempty"`
	// Lost counts the failures since then that the authority counts.
	Lost int `json:"lost,omitempty"`
	// Issuer is who would sign for the domain itself, by a TXT record.
	Issuer    *preflight.Issuer `json:"issuer,omitempty"`
	Directory string            `json:"directory,omitempty"` // where the issuer is
	Renew     bool              `json:"renew,omitempty"`     // the owner asks for a new one now
	Note      string            `json:"note,omitempty"`      // what the owner should know though it stops nothing
}

// Order is one that has been begun and not come to an end. It is kept so that a
// crash costs no second one.
type Order struct {
	Directory string    `json:"directory"`
	URL       string    `json:"url"` // empty: the authority was being asked for it
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
	maxTries  = 10 // orders of a name begun in an hour; authorities allow an account 300 in three hours
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
	fix(&r.Rest.At)
	if r.Issued != nil {
		fix(&r.Issued.At)
	}
	if r.Renewal.Asked.After(now.Add(time.Minute)) {
		r.Renewal.Asked, r.Renewal.Again, moved = now, now, true
	}
	return moved
}

// spent is an error after which an order is over. The authority may count it.
type spent struct{ error }

func (s spent) Unwrap() error { return s.error }

// stale is an error after which an order is over that cost nothing.
type stale struct{ error }

func (s stale) Unwrap() error { return s.error }

// looked remembers what preflight has found.
func (r *Record) looked(look preflight.Result) {
	r.Preflight = look
	if !look.Soft() {
		r.SoftSince = time.Time{}
	} else if r.SoftSince.IsZero() {
		r.SoftSince = look.At
	}
}

// lose remembers a try that led to nothing; wait is what the authority asked for.
func (r *Record) lose(now time.Time, err error, wait time.Duration) {
	var over spent
	var gone stale
	counted := errors.As(err, &over)
	if counted || errors.As(err, &gone) {
		r.Order = nil
	}
	r.fail(now, err, counted, wait)
}

// win remembers the certificate that the order has led to.
func (r *Record) win(now time.Time, serial string) {
	r.Issued = &Issued{Directory: r.Order.Directory, Serial: serial, At: now, Replaces: r.Order.Replaces}
	r.Order, r.Failures, r.Lost, r.Renew, r.Renewal, r.Rest = nil, nil, 0, false, Renewal{}, Failure{}
}

// When to try again after failures that the authority counts. Two days long the
// owner may be at it, and sees within the hour whether it helped. After that, four a
// day: Let's Encrypt pauses a name after 1152 failures in a row and forgives one a day,
// so a year of this is borne, and one that heals is noticed the same day.
var (
	firstWaits = []time.Duration{time.Minute, 10 * time.Minute}
	hourly     = 48 // failures until the waits get long
)

const longWait = 6 * time.Hour

// fail remembers a failure and when to try again. A wait that the authority
// asked for is obeyed when it is longer than ours.
func (r *Record) fail(now time.Time, why error, counted bool, asked time.Duration) {
	f := Failure{At: now, Order: counted, Why: brief(why)}
	switch {
	case !counted:
		// It cost nothing, and a network that comes back should be noticed.
		n := 0
		for i := len(r.Failures) - 1; i >= 0 && !r.Failures[i].Order; i-- {
			n++
		}
		f.Wait = min(time.Minute<<min(n, 4), 10*time.Minute)
	case r.Lost < len(firstWaits):
		f.Wait = firstWaits[r.Lost]
	case r.Lost < hourly:
		f.Wait = time.Hour
	default:
		// Not everybody at the same second of the day.
		f.Wait = longWait + rand.N(time.Hour)
	}
	if counted {
		r.Lost++
	}
	f.Wait = max(f.Wait, min(asked, 31*day))
	r.Failures = append(r.Failures, f)
	r.Failures = r.Failures[max(0, len(r.Failures)-maxMemory):]
}

// rest leaves the authority alone for a moment, or for as long as it asks.
func (r *Record) rest(now time.Time, asked time.Duration) {
	r.Rest = Failure{At: now, Wait: max(time.Minute, min(asked, 31*day))}
}

// brief is an error as far as people read it: authorities and what stands
// before them may answer with whole pages.
func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if r := []rune(text); len(r) > 500 {
		text = string(r[:500]) + "..."
	}
	return text
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
	if t := r.Rest.At.Add(r.Rest.Wait); t.After(until) {
		until = t
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
	// And whatever kills us in the middle of orders, they are not many.
	if n := len(r.Tries); n >= maxTries {
		if t := r.Tries[n-maxTries].Add(time.Hour); t.After(until) {
			until = t
		}
	}
	return until
}

// earliest is before when a pair is not replaced because the authority says so.
func (r Record) earliest(p Pair) time.Time {
	if r.Issued == nil || r.Issued.Serial != p.Serial {
		return time.Time{}
	}
	return r.Issued.At.Add(min(day, p.NotAfter.Sub(p.NotBefore)/3))
}
