package certificate

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// pair is one that began so long ago and lives 90 days.
func pair(signed bool, age time.Duration) Pair {
	return Pair{Usable: true, Serial: "a", NotBefore: noon.Add(-age), NotAfter: noon.Add(90*day - age), Signed: signed, Only: true}
}

// brought is such a pair of the owner's.
func brought(age time.Duration) Pair {
	p := pair(true, age)
	p.Own, p.Digest = true, "own"
	return p
}

func TestNext(t *testing.T) {
	const directory = "https://a.example/dir"
	looked := func(age time.Duration, f ...preflight.Finding) preflight.Result {
		return preflight.Result{At: noon.Add(-age), Findings: f}
	}
	asked := Renewal{Serial: "a", Again: noon.Add(3 * time.Hour)}
	failed := func(age, wait time.Duration) Failure { return Failure{At: noon.Add(-age), Wait: wait, Order: true} }
	for _, c := range []struct {
		name     string
		n        Name
		st       State
		reloaded time.Duration
		want     Action
		until    time.Duration
	}{
		{name: "empty", want: Interim},
		{name: "clock before", st: State{Live: pair(false, -time.Hour)}, want: Interim},
		{name: "clock after", st: State{Live: pair(false, 91*day)}, want: Interim},
		{name: "signed, clock before", st: State{Live: pair(true, -365*day)}, want: CheckDNS},
		{name: "signed, clock after", st: State{Live: pair(true, 73*365*day)}, want: CheckDNS},
		{name: "expired, newer in the archive", st: State{Live: pair(true, 91*day), Archive: pair(true, day)}, want: Restore},
		{name: "interim, signed in the archive", st: State{Live: pair(false, day), Archive: pair(true, day)}, want: Restore},
		{name: "interim", st: State{Live: pair(false, day)}, want: CheckDNS},
		{name: "Prosody has none", n: Name{XMPP: Client}, st: State{Live: pair(false, day)}, want: CopyProsody},
		{name: "Prosody names too much", n: Name{XMPP: Client}, st: State{Live: pair(false, day), Prosody: Pair{Usable: true, Serial: "p", NotBefore: noon.Add(-day), NotAfter: noon.Add(day)}}, want: CopyProsody},
		{name: "Prosody's is old", n: Name{XMPP: Client}, st: State{Live: pair(true, day), Prosody: Pair{Usable: true, Serial: "p", Signed: true}}, want: CopyProsody},
		{name: "NGINX shows another", n: Name{HTTPS: true}, st: State{Live: pair(true, day), HTTPS: Served{Serial: "b"}}, want: ReloadNGINX},
		{name: "and was just told", n: Name{HTTPS: true}, reloaded: 5 * time.Second, st: State{Live: pair(true, day), HTTPS: Served{Serial: "b"}, Record: Record{Renewal: asked}}, want: Idle, until: 15 * time.Second},
		{name: "NGINX is down", n: Name{HTTPS: true}, st: State{Live: pair(true, day), HTTPS: Served{Down: true, Error: "refused"}, Record: Record{Renewal: asked}}, want: Idle, until: 3 * time.Hour},
		{name: "Prosody shows none", n: Name{XMPP: Client}, st: State{Live: pair(true, day), Prosody: pair(true, day), XMPP: Served{Error: "no starttls"}}, want: ReloadProsody},
		{name: "DNS is right", st: State{Live: pair(false, day), Record: Record{Preflight: looked(time.Second)}}, want: GetOne},
		{name: "DNS is right for another way", n: Name{Method: DNSPersist01}, st: State{Live: pair(false, day), Record: Record{For: "http-01 " + directory, Preflight: looked(time.Second)}}, want: CheckDNS},
		{name: "DNS is right for another authority", st: State{Live: pair(false, day), Record: Record{For: "http-01 https://b.example/dir", Preflight: looked(time.Second)}}, want: CheckDNS},
		{name: "DNS is right for this way", st: State{Live: pair(false, day), Record: Record{For: "http-01 " + directory, Preflight: looked(time.Second)}}, want: GetOne},
		{name: "held", st: State{Live: pair(false, day), Hold: "the door is open", Record: Record{Preflight: looked(time.Second)}}, want: Idle, until: 29 * time.Second},
		{name: "right, but long ago", st: State{Live: pair(false, day), Record: Record{Preflight: looked(3 * time.Minute)}}, want: CheckDNS},
		{name: "looked in the future", st: State{Live: pair(false, day), Record: Record{Preflight: looked(-time.Hour)}}, want: CheckDNS},
		{name: "wrong", st: State{Live: pair(false, day), Record: Record{Preflight: looked(10*time.Second, preflight.Finding{Kind: preflight.Foreign})}}, want: Idle, until: 20 * time.Second},
		{name: "wrong a while ago", st: State{Live: pair(false, day), Record: Record{Preflight: looked(31*time.Second, preflight.Finding{Kind: preflight.Foreign})}}, want: CheckDNS},
		{name: "wrong for ever", st: State{Live: pair(false, day), Record: Record{SoftSince: noon.Add(-day), Preflight: looked(10*time.Second, preflight.Finding{Kind: preflight.Foreign}, preflight.Finding{Kind: preflight.Unproven})}}, want: Idle, until: 20 * time.Second},
		{name: "unproven", st: State{Live: pair(false, day), Record: Record{SoftSince: noon.Add(-9 * time.Minute), Preflight: looked(10*time.Second, preflight.Finding{Kind: preflight.Unproven})}}, want: Idle, until: 20 * time.Second},
		{name: "unproven for ten minutes", st: State{Live: pair(false, day), Record: Record{SoftSince: noon.Add(-10 * time.Minute), Preflight: looked(10*time.Second, preflight.Finding{Kind: preflight.Unproven})}}, want: GetOne},
		{name: "unproven, tried lately", st: State{Live: pair(false, day), Record: Record{Tries: []time.Time{noon.Add(-29 * time.Minute)}, SoftSince: noon.Add(-time.Hour), Preflight: looked(10*time.Second, preflight.Finding{Kind: preflight.Unproven})}}, want: Idle, until: 20 * time.Second},
		{name: "failed", st: State{Live: pair(false, day), Record: Record{Preflight: looked(time.Second), Failures: []Failure{failed(time.Minute, 10*time.Minute)}}}, want: Idle, until: 9 * time.Minute},
		{name: "failed, waited", st: State{Live: pair(false, day), Record: Record{Preflight: looked(time.Second), Failures: []Failure{failed(11*time.Minute, 10*time.Minute)}}}, want: GetOne},
		{name: "four failures in an hour", st: State{Live: pair(false, day), Record: Record{Preflight: looked(time.Second), Failures: []Failure{failed(50*time.Minute, 0), failed(40*time.Minute, 0), failed(30*time.Minute, 0), failed(20*time.Minute, 0)}}}, want: Idle, until: 10 * time.Minute},
		{name: "begun", st: State{Live: pair(false, day), Record: Record{Order: &Order{Directory: directory, URL: "u"}}}, want: GetOne},
		{name: "begun elsewhere", st: State{Live: pair(false, day), Record: Record{Order: &Order{Directory: "https://b.example/dir", URL: "u"}}}, want: CheckDNS},
		{name: "an order that a kill has hidden", st: State{Live: pair(false, day), Record: Record{Order: &Order{Directory: directory}}}, want: CheckDNS},
		{name: "the owner's", n: Name{Method: Owned}, st: State{Live: pair(false, day), Own: brought(day)}, want: Bring},
		{name: "the owner's is there", n: Name{Method: Owned}, st: State{Live: brought(day), Own: brought(day)}, want: Idle, until: 12 * time.Hour},
		{name: "the owner's is there and near its end", n: Name{Method: Owned}, st: State{Live: brought(90*day - time.Hour), Own: brought(90*day - time.Hour)}, want: Idle, until: time.Hour},
		{name: "the owner's is over", n: Name{Method: Owned}, st: State{Live: brought(91 * day), Own: brought(91 * day)}, want: Idle, until: 12 * time.Hour},
		{name: "the owner's is over, another lies there", n: Name{Method: Owned}, st: State{Live: brought(91 * day), Own: brought(91 * day), Archive: pair(true, day)}, want: Restore},
		{name: "the owner's begins later", n: Name{Method: Owned}, st: State{Live: pair(false, day), Own: brought(-time.Hour)}, want: Idle, until: time.Hour},
		{name: "the owner's cannot be read", n: Name{Method: Owned}, st: State{Live: pair(false, day), OwnWhy: "x"}, want: Idle, until: 12 * time.Hour},
		{name: "never ordered while the owner brings it", n: Name{Method: Owned}, st: State{Live: pair(false, day), OwnWhy: "x", Record: Record{Renew: true, Order: &Order{Directory: directory, URL: "u"}, Preflight: looked(time.Second)}}, want: Idle, until: 12 * time.Hour},
		{name: "the owner's is not wanted any more", st: State{Live: brought(day)}, want: CheckDNS},
		{name: "the owner's of another chain", n: Name{XMPP: Client}, st: State{Live: brought(day), Prosody: pair(true, day)}, want: CopyProsody},
		{name: "signed, for a time that our clock has not reached", st: State{Live: pair(true, -time.Hour), Record: Record{Renewal: asked, Issued: &Issued{Serial: "a", Directory: directory, At: noon.Add(-time.Hour)}}}, want: Idle, until: 3 * time.Hour},
		{name: "so for a month", st: State{Live: pair(true, -time.Hour), Record: Record{Renewal: asked, Issued: &Issued{Serial: "a", Directory: directory, At: noon.Add(-31 * day)}}}, want: CheckDNS},
		{name: "and nobody knows since when", st: State{Live: pair(true, -time.Hour), Record: Record{Renewal: asked}}, want: CheckDNS},
		{name: "ten orders in an hour", st: State{Live: pair(false, day), Record: Record{Tries: slices.Repeat([]time.Time{noon.Add(-50 * time.Minute)}, 10), Preflight: looked(time.Second)}}, want: Idle, until: 10 * time.Minute},
		{name: "signed just now, and over by our clock", st: State{Live: pair(true, 91*day), Record: Record{Renewal: asked, Issued: &Issued{Serial: "a", Directory: directory, At: noon.Add(-time.Hour)}}}, want: Idle, until: 3 * time.Hour},
		{name: "signed two days ago, and over by our clock", st: State{Live: pair(true, 91*day), Record: Record{Renewal: asked, Issued: &Issued{Serial: "a", Directory: directory, At: noon.Add(-2 * day)}}}, want: CheckDNS},
		{name: "the authority's window is always over", st: State{Live: pair(true, time.Hour), Record: Record{Renewal: Renewal{Serial: "a", Again: noon.Add(3 * time.Hour), Chosen: noon.Add(-day)}, Issued: &Issued{Serial: "a", Directory: directory, At: noon.Add(-22 * time.Hour)}}}, want: Idle, until: 2 * time.Hour},
		{name: "the authority is resting", st: State{Live: pair(false, day), Record: Record{Rest: Failure{At: noon, Wait: time.Minute}}}, want: Idle, until: time.Minute},
		{name: "not yet asked", st: State{Live: pair(true, day)}, want: AskRenewal},
		{name: "all is well", st: State{Live: pair(true, day), Record: Record{Renewal: asked}}, want: Idle, until: 3 * time.Hour},
		{name: "a third left", st: State{Live: pair(true, 60*day), Record: Record{Renewal: asked}}, want: CheckDNS},
		{name: "the authority says later", st: State{Live: pair(true, 60*day), Record: Record{Renewal: Renewal{Serial: "a", Again: noon.Add(3 * time.Hour), Chosen: noon.Add(time.Hour)}}}, want: Idle, until: time.Hour},
		{name: "the authority says now", st: State{Live: pair(true, day), Record: Record{Renewal: Renewal{Serial: "a", Again: noon.Add(3 * time.Hour), Chosen: noon}}}, want: CheckDNS},
		{name: "the authority says much too late", st: State{Live: pair(true, 82*day), Record: Record{Renewal: Renewal{Serial: "a", Again: noon.Add(3 * time.Hour), Chosen: noon.Add(30 * day)}}}, want: CheckDNS},
		{name: "the owner wants it", st: State{Live: pair(true, day), Record: Record{Renew: true, Renewal: asked}}, want: CheckDNS},
		{name: "another authority", st: State{Live: pair(true, day), Record: Record{Issued: &Issued{Serial: "a", Directory: "https://b.example/dir"}, Renewal: asked}}, want: CheckDNS},
	} {
		c.n.Host = "h"
		reloaded := map[Action]time.Time{}
		if c.reloaded > 0 {
			reloaded[ReloadNGINX] = noon.Add(-c.reloaded)
		}
		got := Next(Settings{Directory: directory, Names: []Name{c.n}}, Observed{"h": c.st}, reloaded, noon)
		if got.Action != c.want || c.want == Idle && got.Until.Sub(noon) != c.until {
			t.Errorf("%s: %s until %v (%s), want %s until %v", c.name, got.Action, got.Until.Sub(noon), got.Why, c.want, c.until)
		}
	}
}

func TestSchedule(t *testing.T) {
	r := Record{Host: "h"}
	now := noon
	lose := func() time.Duration {
		r.lose(now, spent{errors.New("no")}, 0)
		wait := r.patience().Sub(now)
		now = r.patience()
		return wait
	}
	for i, want := range append([]time.Duration{time.Minute, 10 * time.Minute}, slices.Repeat([]time.Duration{time.Hour}, 46)...) {
		if got := lose(); got != want {
			t.Errorf("wait %d: %v, want %v", i, got, want)
		}
	}
	// The memory of single failures is shorter than the count of all.
	for range 60 {
		if got := lose(); got < 6*time.Hour || got > 7*time.Hour {
			t.Errorf("wait %v, want six to seven hours", got)
		}
	}
	r.fail(now, errors.New("limited"), false, 34*time.Hour)
	if got := r.patience().Sub(now); got != 34*time.Hour {
		t.Errorf("wait %v, want the authority's 34 h", got)
	}
	// A clock that was a year ahead makes nobody wait a year.
	before := now.Add(-365 * day)
	if !r.clamp(before) || r.patience().Sub(before) > 35*time.Hour {
		t.Errorf("after the clock went back: wait %v", r.patience().Sub(before))
	}
	if r.clamp(before) {
		t.Error("clamped twice")
	}
	// What costs nothing is tried again sooner, and each authority's wish is obeyed.
	r = Record{}
	for _, want := range []int{1, 2, 4, 8, 10, 10} {
		if r.lose(noon, errors.New("down"), 0); r.patience().Sub(noon) != time.Duration(want)*time.Minute {
			t.Errorf("wait %v, want %d min", r.patience().Sub(noon), want)
		}
	}
	if r.rest(noon, time.Hour); r.patience().Sub(noon) != time.Hour {
		t.Errorf("rest %v", r.patience().Sub(noon))
	}
	if !r.clamp(noon.Add(-day)) || r.patience().Sub(noon) > time.Hour-day {
		t.Errorf("after the clock went back: rest until %v", r.patience())
	}
	// A page in the place of an answer does not fill the record.
	r.lose(noon, errors.New(strings.Repeat("<p>\n", 1<<18)), 0)
	if why := r.Failures[len(r.Failures)-1].Why; len(why) > 600 || strings.Contains(why, "\n") {
		t.Errorf("%d bytes", len(why))
	}
}
