package certificate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// A simulated year: the decisions of next.go and the memory of record.go, with a
// clock that runs as fast as they decide, against an authority that counts as
// Let's Encrypt does (limits of August 2026, docs/rate-limits there).

// A life is a world for a year. Its functions look at the true time.
type life struct {
	name string
	// dns says whether preflight finds all right, proves whether the authority
	// does, up whether it answers.
	dns, proves, up func(t time.Time) bool
	// clock is what the machine's clock is off by.
	clock func(t time.Time) time.Duration
	// loses is whether the machine loses all that it remembers, and with disk its
	// certificates too.
	loses func(t time.Time) (records, disk bool)
	// unproven is a machine that cannot reach its own address.
	unproven bool
	// kills is whether a run dies when the authority has begun an order for it.
	kills  func(t time.Time) bool
	length time.Duration // zero: a year
	heals  time.Duration // bound: how long after the world is right all names are certified
}

func always(time.Time) bool         { return true }
func never(time.Time) bool          { return false }
func right(time.Time) time.Duration { return 0 }
func keeps(time.Time) (bool, bool)  { return false, false }

func TestYear(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	weekly := func(t time.Time) bool { return t.Sub(begin)%(7*day) < 15*time.Minute && t.Sub(begin) > day }
	for _, l := range []life{
		{name: "all is well", dns: always, proves: always, up: always, clock: right, loses: keeps, heals: time.Minute},
		{name: "every validation fails", dns: always, proves: never, up: always, clock: right, loses: keeps, heals: 7*time.Hour + time.Minute},
		{name: "every validation fails, memory lost each week", dns: always, proves: never, up: always, clock: right,
			loses: func(t time.Time) (bool, bool) { return weekly(t), false }, heals: 7*time.Hour + time.Minute},
		{name: "every validation fails for almost two days", dns: always, proves: never, up: always, clock: right, loses: keeps, length: 45 * time.Hour, heals: time.Hour + time.Minute},
		{name: "so does a machine that cannot reach itself", dns: always, proves: never, up: always, clock: right, loses: keeps, unproven: true, length: 45 * time.Hour, heals: time.Hour + 2*time.Minute},
		{name: "and for a year", dns: always, proves: never, up: always, clock: right, loses: keeps, unproven: true, heals: 7*time.Hour + 2*time.Minute},
		// It looks every 30 seconds, and nothing else.
		{name: "DNS is wrong for two months", dns: never, proves: never, up: always, clock: right, loses: keeps, length: 60 * day, heals: time.Minute},
		{name: "DNS is right for an hour a day", dns: func(t time.Time) bool { return t.Hour() == 3 }, proves: func(t time.Time) bool { return t.Hour() == 3 }, up: always, clock: right, loses: keeps, heals: time.Minute},
		{name: "DNS is right for an hour a day, and the authority sees it half of the time", dns: func(t time.Time) bool { return t.Hour() == 3 }, proves: func(t time.Time) bool { return t.Hour() == 3 && t.YearDay()%2 == 0 }, up: always, clock: right, loses: keeps, heals: 7*time.Hour + time.Minute},
		{name: "the authority is down every other hour", dns: always, proves: always, up: func(t time.Time) bool { return t.Hour()%2 == 1 }, clock: right, loses: keeps, heals: 11 * time.Minute},
		{name: "and memory and disk are lost each week", dns: always, proves: always, up: func(t time.Time) bool { return t.Hour()%2 == 1 }, clock: right,
			loses: func(t time.Time) (bool, bool) { return weekly(t), weekly(t) }, heals: 11 * time.Minute},
		{name: "the clock jumps each day", dns: always, proves: always, up: always, heals: time.Minute, loses: keeps,
			clock: func(t time.Time) time.Duration {
				return []time.Duration{0, 3 * time.Hour, -3 * time.Hour, 400 * day, -400 * day, -2 * time.Minute, 80 * day}[t.YearDay()%7]
			}},
		{name: "every other order is killed", dns: always, proves: always, up: always, clock: right, loses: keeps, heals: time.Minute,
			kills: func(time.Time) bool { return rand.N(2) == 0 }},
		{name: "every order is killed", dns: always, proves: always, up: always, clock: right, loses: keeps, heals: time.Hour + time.Minute, kills: always},
		{name: "the clock is behind for ever", dns: always, proves: always, up: always, heals: time.Minute, loses: keeps,
			clock: func(t time.Time) time.Duration { return -400 * day }},
		{name: "the clock is ahead for ever", dns: always, proves: always, up: always, heals: time.Minute, loses: keeps,
			clock: func(t time.Time) time.Duration { return 400 * day }},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			if l.length == 0 {
				l.length = 365 * day
			}
			l.live(t, begin, begin.Add(l.length))
		})
	}
}

// memory is what a machine has on its disk.
type memory struct {
	record   map[string]Record
	live     map[string]Pair
	archived map[string]Pair
}

func blank() *memory {
	return &memory{map[string]Record{}, map[string]Pair{}, map[string]Pair{}}
}

func (l life) live(t *testing.T, begin, end time.Time) {
	names := []Name{{Host: "a"}, {Host: "b"}, {Host: "c"}, {Host: "d"}} // a machine has four
	s := Settings{Names: names, Directory: "https://ca.example/dir"}
	ca, m := newModelCA(begin), blank()
	serials, steps, pause := 0, 0, 10*time.Minute
	world := l
	now := begin
	step := func() (wait time.Duration) {
		clock := now.Add(world.clock(now))
		o := Observed{}
		for _, n := range names {
			r := m.record[n.Host]
			r.Host = n.Host
			if r.clamp(clock) {
				m.record[n.Host] = r
			}
			st := State{Live: m.live[n.Host], Record: r}
			if a := m.archived[n.Host]; (!st.Live.Signed || !st.Live.Valid(clock)) && a.Valid(clock) {
				st.Archive = a
			}
			o[n.Host] = st
		}
		a := Next(s, o, nil, clock)
		steps++
		r := m.record[a.Host]
		r.Host = a.Host
		switch a.Action {
		case Idle:
			// The agent looks each minute. Nothing changes between here and a's time
			// that it would see, so the year does not.
			return min(max(a.Until.Sub(clock), time.Second), pause)
		case Interim:
			if m.live[a.Host].Signed {
				m.archived[a.Host] = m.live[a.Host]
			}
			m.live[a.Host] = Pair{Usable: true, Serial: "interim", NotBefore: clock.Add(-backdate), NotAfter: clock.Add(lifetime)}
			return 0
		case Restore:
			m.live[a.Host] = m.archived[a.Host]
			return 0
		case CheckDNS:
			look := preflight.Result{At: clock}
			switch {
			case !world.dns(now):
				look.Findings = []preflight.Finding{{Kind: preflight.Foreign}}
			case !world.up(now):
				look.Findings = []preflight.Finding{{Kind: preflight.Authority}}
				r.rest(clock, 0)
			}
			if l.unproven && len(look.Findings) == 0 {
				look.Findings = []preflight.Finding{{Kind: preflight.Unproven}}
			}
			r.looked(look)
		case GetOne:
			if !world.up(now) {
				r.lose(clock, errors.New("the authority is down"), 0)
				break
			}
			r.try(clock)
			r.Order = &Order{Directory: s.Directory}
			if world.kills != nil && world.kills(now) {
				ca.begin(now)
				m.record[a.Host] = r
				return 20 * time.Second
			}
			r.Order.URL = "u"
			if !ca.order(a.Host, world.proves(now), m.live[a.Host].Signed, now) {
				r.lose(clock, spent{errors.New("not proved")}, 0)
				break
			}
			serials++
			if m.live[a.Host].Signed {
				m.archived[a.Host] = m.live[a.Host]
			}
			m.live[a.Host] = Pair{Usable: true, Signed: true, Serial: fmt.Sprint(serials), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90*day - time.Hour)}
			r.win(clock, m.live[a.Host].Serial)
		case AskRenewal:
			r.Renewal = Renewal{Serial: m.live[a.Host].Serial, Asked: clock, Again: clock.Add(askEvery)}
		default:
			t.Fatalf("an unexpected step: %+v", a)
		}
		m.record[a.Host] = r
		return time.Second
	}
	certified := func() bool {
		for _, n := range names {
			if p := m.live[n.Host]; !p.Signed || !p.Valid(now) {
				return false
			}
		}
		return true
	}
	advance := func(to time.Time) {
		for quick := 0; now.Before(to); {
			records, disk := world.loses(now)
			if records {
				m.record = map[string]Record{}
				ca.register(now)
			}
			if disk {
				m.live, m.archived = map[string]Pair{}, map[string]Pair{}
			}
			if records || disk {
				now = now.Add(15 * time.Minute)
			}
			wait := step()
			if quick++; wait > 0 {
				quick = 0
			}
			if quick > 20 {
				t.Fatalf("it does not come to rest at %v", now)
			}
			// Runs of the agent are never exactly as far apart.
			now = now.Add(wait + rand.N(wait/10+1))
		}
	}
	advance(end)
	most := 0
	for _, n := range ca.busiest {
		most = max(most, n)
	}
	t.Logf("%d steps, %d orders, %d failed (at most %d of a name in an hour), %d certificates, %d accounts", steps, ca.orders, ca.failed, most, ca.made, ca.account)
	for what, n := range ca.limits {
		t.Errorf("the limit on %s is passed %d times", what, n)
	}
	// Then the world is right.
	world.dns, world.proves, world.up, world.loses, world.kills = always, always, always, keeps, nil
	pause = time.Minute
	if world.clock(now) > -399*day && world.clock(now) < 399*day {
		world.clock = right
	}
	healed := now
	for !certified() {
		if now.Sub(healed) > l.heals {
			t.Fatalf("no certificate %v after the world is right: %+v", now.Sub(healed), m.record)
		}
		advance(now.Add(time.Second))
	}
	t.Logf("all certified %v after the world was right", now.Sub(healed).Round(time.Second))
	if len(ca.limits) > 0 {
		t.Errorf("limits passed: %v", ca.limits)
	}
}
