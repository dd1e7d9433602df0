// Package alert decides of what people are told who do not look: what changed
// between what they were told and what is. It sends that by mail and to a
// webhook.
//
// It is level-triggered. Each channel remembers what it has told; a message
// that could not be delivered is not kept, but made anew from what is then. A
// run that dies between sending and remembering sends once more.
package alert

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// hold is how long a matter must be, or not be any more, before anybody is
	// told: nothing flaps.
	hold = 10 * time.Minute
	// grace is how long one that was not told yet may be away and still be the
	// same: a Pod that comes up for a moment is down.
	grace = 2 * time.Minute
	// unseen is how long nobody may have looked: what was before counts no more.
	unseen = 5 * time.Minute
	// noted is how exactly the time of the last look is kept.
	noted = time.Minute
	// remind is how long one is kept waiting who was told already.
	remind = 7 * 24 * time.Hour
	// patience is the longest wait after a delivery that failed.
	patience = time.Hour
)

// A Matter is one thing that needs a look. Texts are sentences for an owner.
type Matter struct {
	Key   string `json:"key"`   // stable: "pod", "certificate example.org"
	Title string `json:"title"` // a noun
	What  string `json:"what"`
	Why   string `json:"why,omitempty"`
	Do    string `json:"do,omitempty"`
}

// A Turn is what became of a matter.
type Turn string

// The turns that people are told of.
const (
	Began Turn = "began"
	Still Turn = "still" // a reminder
	Over  Turn = "over"
)

// A Change is a matter that somebody is to be told of.
type Change struct {
	Turn  Turn      `json:"change"`
	Since time.Time `json:"since"` // when it began; of one that is over, when it was told first
	Matter
}

// Memory is what is remembered of matters and of who was told.
type Memory struct {
	Schema  int                 `json:"schema"` // 1
	Seen    time.Time           `json:"seen,omitzero"`
	Matters map[string]*Watched `json:"matters,omitempty"`
	// Right are the DNS records that were right once, each as type and name.
	Right    []string            `json:"right,omitempty"`
	Channels map[string]*Channel `json:"channels,omitempty"`
	// To is who was to be told when the settings were right last: wrong ones are
	// told too. It has secrets.
	To To `json:"to,omitzero"`
}

// Watched is a matter with its times.
type Watched struct {
	Matter
	Since time.Time `json:"since"`
	Held  bool      `json:"held,omitempty"` // long enough to tell of it
	Gone  time.Time `json:"gone,omitzero"`  // since when it is not so any more
}

// Channel is what was told on one way.
type Channel struct {
	Told     map[string]Told `json:"told,omitempty"` // by key
	Failures int             `json:"failures,omitempty"`
	Error    string          `json:"error,omitempty"`
	Again    time.Time       `json:"again,omitzero"` // no delivery before
	Target   string          `json:"target"`         // digest of who is told
}

// Told is when, and of what.
type Told struct {
	Title string    `json:"title"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Decode reads a memory. One that cannot be read is an error, and the empty
// memory is good instead.
func Decode(b []byte) (Memory, error) {
	var m Memory
	if err := json.Unmarshal(b, &m); err != nil {
		return Memory{}, fmt.Errorf("reading what people were told: %w", err)
	}
	if m.Schema != 1 {
		return Memory{}, fmt.Errorf("reading what people were told: it has schema %d, this program reads 1", m.Schema)
	}
	maps.DeleteFunc(m.Matters, func(_ string, w *Watched) bool { return w == nil })
	maps.DeleteFunc(m.Channels, func(_ string, c *Channel) bool { return c == nil })
	return m, nil
}

// Known says whether a matter was found long enough for people to be told.
func (m *Memory) Known(key string) bool {
	w := m.Matters[key]
	return w != nil && w.Held
}

// Look takes up what is so now. It says whether there is something to remember.
func (m *Memory) Look(is []Matter, now time.Time) (changed bool) {
	m.Schema = 1
	if m.Matters == nil {
		m.Matters = map[string]*Watched{}
	}
	changed = m.clamp(now)
	pending := false
	lost := !m.Seen.IsZero() && now.Sub(m.Seen) > unseen
	for _, one := range is {
		w := m.Matters[one.Key]
		if w == nil {
			w, changed = &Watched{Since: now}, true
			m.Matters[one.Key] = w
		}
		w.Matter = one
		if !w.Gone.IsZero() {
			w.Gone, changed = time.Time{}, true
		}
		if !w.Held && lost {
			w.Since, changed = now, true
		}
		if !w.Held && now.Sub(w.Since) >= hold {
			w.Held, changed = true, true
		}
		pending = pending || !w.Held
	}
	for key, w := range m.Matters {
		if slices.ContainsFunc(is, func(one Matter) bool { return one.Key == key }) {
			continue
		}
		if w.Gone.IsZero() || lost {
			w.Gone, changed = now, true
		}
		if away := now.Sub(w.Gone); away >= hold || !w.Held && away >= grace {
			delete(m.Matters, key)
			changed = true
			continue
		}
		pending = true
	}
	switch {
	case !pending && !m.Seen.IsZero():
		m.Seen, changed = time.Time{}, true
	case pending && (changed || now.Sub(m.Seen) >= noted):
		m.Seen, changed = now, true
	}
	return changed
}

// clamp moves to now whatever a clock that was ahead has dated later.
func (m *Memory) clamp(now time.Time) (moved bool) {
	fix := func(t *time.Time, latest time.Time) {
		if t.After(latest) {
			*t, moved = latest, true
		}
	}
	fix(&m.Seen, now)
	for _, w := range m.Matters {
		fix(&w.Since, now)
		fix(&w.Gone, now)
	}
	for _, c := range m.Channels {
		fix(&c.Again, now.Add(patience))
		for key, t := range c.Told {
			fix(&t.First, now)
			fix(&t.Last, now)
			c.Told[key] = t
		}
	}
	return moved
}

// News are the changes that a channel has not told; none while a delivery that
// failed has to wait. A channel with another target begins anew.
func (m *Memory) News(channel, target string, now time.Time) []Change {
	c := m.Channels[channel]
	if c == nil || c.Target != target {
		c = &Channel{}
	}
	if now.Before(c.Again) {
		return nil
	}
	var news []Change
	for _, key := range slices.Sorted(maps.Keys(m.Matters)) {
		w := m.Matters[key]
		told, known := c.Told[key]
		switch {
		case !w.Held || !w.Gone.IsZero():
		case !known:
			news = append(news, Change{Began, w.Since, w.Matter})
		case now.Sub(told.Last) >= remind:
			news = append(news, Change{Still, w.Since, w.Matter})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Told)) {
		// One that has begun again and is not told of yet was over in between.
		if w := m.Matters[key]; w == nil || !w.Held {
			t := c.Told[key]
			news = append(news, Change{Over, t.First, Matter{Key: key, Title: t.Title, What: "It is as it should be again."}})
		}
	}
	return news
}

// Delivered remembers how the delivery of news ended; a failure with its words.
func (m *Memory) Delivered(channel, target string, news []Change, failure string, now time.Time) {
	if m.Channels == nil {
		m.Channels = map[string]*Channel{}
	}
	c := m.Channels[channel]
	if c == nil || c.Target != target {
		c = &Channel{Target: target}
		m.Channels[channel] = c
	}
	if failure != "" {
		c.Again = now.Add(min(time.Minute<<min(max(c.Failures, 0), 6), patience))
		c.Failures, c.Error = min(c.Failures+1, 1000), failure
		return
	}
	c.Failures, c.Error, c.Again = 0, "", time.Time{}
	if c.Told == nil {
		c.Told = map[string]Told{}
	}
	for _, n := range news {
		switch n.Turn {
		case Over:
			delete(c.Told, n.Key)
		default:
			first := now
			if t, ok := c.Told[n.Key]; ok {
				first = t.First
			}
			c.Told[n.Key] = Told{n.Title, first, now}
		}
	}
}

// Keep forgets channels that are not wanted any more.
func (m *Memory) Keep(channels ...string) (changed bool) {
	before := len(m.Channels)
	maps.DeleteFunc(m.Channels, func(name string, _ *Channel) bool { return !slices.Contains(channels, name) })
	return len(m.Channels) != before
}
