package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
)

// MaxSize is the most that Decode reads, in bytes.
const MaxSize = 1 << 20

// Decode reads the JSON of a status and says all that is wrong with it. Fields
// that it does not know are left out: a newer agent may have written them.
func Decode(b []byte) (Status, error) {
	if len(b) > MaxSize {
		return Status{}, fmt.Errorf("reading the status: it has %d bytes, more than %d", len(b), MaxSize)
	}
	var s Status
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&s); err != nil {
		return Status{}, fmt.Errorf("reading the status: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Status{}, fmt.Errorf("reading the status: something follows it at byte %d", d.InputOffset())
	}
	if s.Schema != Schema {
		return Status{}, fmt.Errorf("reading the status: it has schema %d, this program reads %d", s.Schema, Schema)
	}
	if problems := s.problems(); len(problems) > 0 {
		return Status{}, fmt.Errorf("reading the status: %w", errors.Join(problems...))
	}
	return s, nil
}

func (s Status) problems() []error {
	var all []error
	say := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if !slices.Contains([]State{Ready, Degraded, Working, Waiting, Broken}, s.State) {
		say("state: %q is none", s.State)
	}
	for i, it := range s.Items {
		if !slices.Contains(urgency, it.Progress) {
			say("items[%d].progress: %q is none", i, it.Progress)
		}
		if it.Key == "" || it.Title == "" || it.What == "" {
			say("items[%d]: key, title and what must not be empty", i)
		}
	}
	for i, r := range s.Records {
		if !slices.Contains([]RecordState{Present, Missing, Wrong, Unknown}, r.State) {
			say("records[%d].state: %q is none", i, r.State)
		}
		if r.Name == "" || r.Type == "" {
			say("records[%d]: name and type must not be empty", i)
		}
		if r.TTL < 0 || r.TTL > 1<<31-1 { // RFC 2181 section 8
			say("records[%d].ttl: %d is not between 0 and %d", i, r.TTL, 1<<31-1)
		}
	}
	for i, l := range s.Links {
		if !opens(l.URL) {
			say("links[%d].url: %q is nothing to open", i, l.URL)
		}
	}
	for i, c := range s.Certificates {
		if c.Name == "" {
			say("certificates[%d].name: must not be empty", i)
		}
	}
	return all
}

// opens reports whether an address may stand in a link: no script, no file.
func opens(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" && u.Host != "" || u.Scheme == "xmpp" && u.Opaque != "")
}
