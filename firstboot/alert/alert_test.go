package alert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

func matter(key string) Matter { return Matter{Key: key, Title: "Title of " + key, What: "It is so."} }

// A script drives a memory as runs do, with what is remembered written and read
// again each time.
type script struct {
	t    *testing.T
	m    Memory
	now  time.Time
	fail bool
	said []string
	step time.Duration
}

// look takes d of looks, each of which finds keys.
func (s *script) look(d time.Duration, keys ...string) {
	s.t.Helper()
	step := s.step
	if step == 0 {
		step = 20 * time.Second
	}
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(step) {
		s.once(keys...)
	}
}

func (s *script) once(keys ...string) {
	s.t.Helper()
	var is []Matter
	for _, k := range keys {
		is = append(is, matter(k))
	}
	before, _ := json.Marshal(s.m)
	if !s.m.Look(is, s.now) {
		var old Memory
		_ = json.Unmarshal(before, &old)
		for k, w := range s.m.Matters {
			if o := old.Matters[k]; o == nil || o.Held != w.Held || !o.Gone.Equal(w.Gone) || !o.Since.Equal(w.Since) {
				s.t.Errorf("%v: %s has changed and nobody remembers", s.now.Sub(t0), k)
			}
		}
	}
	if news := s.m.News("mail", "me", s.now); len(news) > 0 {
		failure := ""
		if s.fail {
			failure = "connection refused"
		}
		s.m.Delivered("mail", "me", news, failure, s.now)
		for _, n := range news {
			text := fmt.Sprintf("%v %s %s", s.now.Sub(t0).Round(time.Minute), n.Turn, n.Key)
			if s.fail {
				text += " (failed)"
			}
			s.said = append(s.said, text)
		}
	}
	b, err := json.Marshal(s.m)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.m, err = Decode(b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) wants(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.said, want) {
		s.t.Errorf("people were told\n  %s\nand should have been\n  %s", strings.Join(s.said, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestOnceWhenItBeginsAndOnceWhenItIsOver(t *testing.T) {
	s := &script{t: t, now: t0}
	s.look(time.Hour, "pod")
	s.look(time.Hour)
	s.wants("10m0s began pod", "1h10m0s over pod")
	if len(s.m.Matters) != 0 || len(s.m.Channels["mail"].Told) != 0 || !s.m.Seen.IsZero() {
		t.Errorf("something is left: %+v", s.m)
	}
}

func TestAReminderEveryWeek(t *testing.T) {
	s := &script{t: t, now: t0, step: 2 * time.Minute}
	s.look(16*24*time.Hour, "disk")
	s.wants("10m0s began disk", "168h10m0s still disk", "336h10m0s still disk")
}

func TestNothingFlaps(t *testing.T) {
	s := &script{t: t, now: t0}
	for range 20 { // short ones, far apart
		s.look(3*time.Minute, "pod")
		s.look(3 * time.Minute)
	}
	s.wants()
	for range 8 { // down, but for a moment now and then
		s.look(8*time.Minute, "pod")
		s.look(time.Minute)
	}
	s.look(time.Hour)
	s.wants("2h10m0s began pod", "3h21m0s over pod")
}

// A machine that was off has not been down for all that time.
func TestNobodyLooked(t *testing.T) {
	s := &script{t: t, now: t0}
	s.look(time.Minute, "pod")
	s.now = t0.Add(24 * time.Hour)
	s.look(5*time.Minute, "pod")
	s.look(time.Hour)
	s.wants()
	// Nor is what was told over as soon as it comes up.
	s.look(time.Hour, "pod")
	s.said = nil
	s.look(time.Minute)
	s.now = s.now.Add(24 * time.Hour)
	s.look(5 * time.Minute)
	s.look(time.Hour, "pod")
	s.wants()
}

func TestDeliveryIsTriedAgain(t *testing.T) {
	s := &script{t: t, now: t0, fail: true}
	s.look(5*time.Hour, "pod")
	s.wants("10m0s began pod (failed)", "11m0s began pod (failed)", "13m0s began pod (failed)", "17m0s began pod (failed)",
		"25m0s began pod (failed)", "41m0s began pod (failed)", "1h13m0s began pod (failed)", "2h13m0s began pod (failed)", "3h13m0s began pod (failed)", "4h13m0s began pod (failed)")
	if c := s.m.Channels["mail"]; c.Error != "connection refused" || !c.Again.After(s.now) {
		t.Errorf("the failure is not to be seen: %+v", c)
	}
	s.said, s.fail = nil, false
	s.look(2*time.Hour, "pod")
	s.wants("5h13m0s began pod")
	if c := s.m.Channels["mail"]; c.Error != "" || c.Failures != 0 {
		t.Errorf("the failure is still to be seen: %+v", c)
	}
}

// What was never told is not over.
func TestOverBeforeItWasTold(t *testing.T) {
	s := &script{t: t, now: t0, fail: true}
	s.look(20*time.Minute, "pod")
	s.said, s.fail = nil, false
	s.look(2 * time.Hour)
	s.wants()
}

func TestChannelsAreTheirOwn(t *testing.T) {
	m := Memory{}
	for i := range 60 {
		m.Look([]Matter{matter("pod")}, t0.Add(time.Duration(i)*time.Minute))
	}
	now := t0.Add(time.Hour)
	m.Delivered("mail", "me", m.News("mail", "me", now), "", now)
	if n := m.News("mail", "me", now); len(n) != 0 {
		t.Errorf("told twice: %+v", n)
	}
	if n := m.News("webhook", "hook", now); len(n) != 1 {
		t.Errorf("the webhook is not told: %+v", n)
	}
	// Somebody else has not been told anything.
	if n := m.News("mail", "you", now); len(n) != 1 {
		t.Errorf("the new one is not told: %+v", n)
	}
	if !m.Keep("webhook") || m.Channels["mail"] != nil {
		t.Error("a way that is not wanted is kept")
	}
}

// A clock that was ahead makes nobody wait, and tells nobody twice.
func TestClockWasAhead(t *testing.T) {
	s := &script{t: t, now: t0.AddDate(50, 0, 0)}
	s.look(20*time.Minute, "pod")
	s.fail = true
	s.look(20*time.Minute, "pod", "disk")
	s.now, s.fail, s.said = t0, false, nil
	s.look(3*time.Hour, "pod", "disk")
	s.wants("1h0m0s began disk")
	s.look(3 * time.Hour)
	s.wants("1h0m0s began disk", "3h10m0s over disk", "3h10m0s over pod")
}

// Looks that change nothing write nothing.
func TestRestWritesNothing(t *testing.T) {
	s := &script{t: t, now: t0}
	s.look(time.Hour, "pod")
	for range 100 {
		s.now = s.now.Add(20 * time.Second)
		if s.m.Look([]Matter{matter("pod")}, s.now) {
			t.Fatalf("a look that found what was told changes something: %+v", s.m)
		}
	}
	// While one is waited for, once a minute is enough.
	writes := 0
	for range 27 {
		s.now = s.now.Add(20 * time.Second)
		if s.m.Look([]Matter{matter("pod"), matter("disk")}, s.now) {
			writes++
		}
	}
	if writes > 10 {
		t.Errorf("in nine minutes it was written %d times", writes)
	}
	s.look(time.Hour)
	if s.m.Look(nil, s.now) {
		t.Fatalf("a look that found nothing changes something: %+v", s.m)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":1,"seen":"2026-03-14T09:26:53Z","matters":{"pod":{"since":"2026-03-14T09:26:53Z","held":true},"x":null},"channels":{"mail":{"told":{"disk":{}},"failures":-3,"target":"me"},"webhook":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		m.Look([]Matter{matter("pod")}, t0)
		news := m.News("mail", "me", t0)
		m.Delivered("mail", "me", news, "x", t0)
		m.Delivered("mail", "me", news, "", t0)
		m.Keep("mail")
		if _, err := json.Marshal(m); err != nil && !strings.Contains(err.Error(), "year outside") {
			t.Fatal(err)
		}
	})
}
