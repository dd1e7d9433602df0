package firstboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

var another = preflight.Finding{Name: "prose." + domain, Kind: preflight.Foreign, Type: "A", Found: []string{"1.2.3.5"}}

// copyOf makes a machine a copy that has begun to be one of its own.
func copyOf(w *world, findings ...preflight.Finding) {
	w.state.Copied = w.now.Add(-time.Hour)
	w.reach = reach{}
	for _, host := range watched(domain) {
		w.reach[host] = preflight.Result{At: w.now, Findings: findings}
	}
}

// What a machine does that was copied, moved, or has no idea of the time.
func TestNextOfFaults(t *testing.T) {
	early := func(w *world, wrong time.Duration) {
		w.clock = clock{made: w.now.Add(time.Hour), wrong: wrong}
	}
	due := func(st *certificate.State) { st.Record.Renew = true }
	for _, c := range []struct {
		name   string
		change func(*world)
		failed action
		want   action
	}{
		{"the same machine", func(w *world) { w.state.identity = identity{"a", "i-1"}; w.is = w.state.identity }, "", idle},
		{"a machine of before these were written down", func(w *world) { w.is = identity{"a", "i-1"} }, "", adopt},
		{"a machine that moved", func(w *world) { w.state.identity = identity{"a", "i-1"}; w.is = identity{"a", "i-2"} }, "", adopt},
		{"cloud-init has left nothing this time", func(w *world) { w.state.identity = identity{"a", "i-1"}; w.is = identity{"a", ""} }, "", idle},
		{"systemd has no machine-id", func(w *world) { w.state.identity = identity{"a", "i-1"} }, "", idle},
		{"a copy", func(w *world) { w.state.identity = identity{"a", "i-1"}; w.is = identity{"b", "i-2"} }, "", becomeItself},
		{"a copy that nobody renamed", func(w *world) { w.state.identity = identity{"a", "i-1"}; w.is = identity{"b", "i-1"} }, "", becomeItself},
		{"a copy, and a certificate is due", func(w *world) {
			w.state.identity, w.is = identity{"a", "i-1"}, identity{"b", "i-2"}
			cert(w, domain, due)
		}, becomeItself, idle},
		{"a copy with an order that the original has begun", func(w *world) {
			w.state.identity, w.is = identity{"a", ""}, identity{"b", ""}
			cert(w, domain, func(st *certificate.State) { st.Record.Order = &certificate.Order{Directory: certificate.LetsEncrypt} })
		}, becomeItself, idle},
		{"a copy while DNS leads to the original", func(w *world) { copyOf(w, another) }, "", idle},
		{"a copy that nothing is known of yet", func(w *world) { copyOf(w); w.reach = nil }, "", idle},
		{"a copy that takes over", func(w *world) { copyOf(w) }, "", takeOver},

		{"a name to look at", func(w *world) { cert(w, domain, due) }, "", keep},
		{"and it was in this run", func(w *world) { cert(w, domain, due); w.checked = map[string]bool{domain: true} }, "", idle},
		{"and the Pod is on its way", func(w *world) {
			cert(w, domain, due)
			w.checked, w.pod.busy = map[string]bool{domain: true}, true
		}, "", keep},
		{"a copy whose address is translated", func(w *world) { copyOf(w, preflight.Finding{Kind: preflight.Unproven}) }, "", takeOver},

		{"a certificate is due", func(w *world) { cert(w, domain, due) }, "", keep},
		{"and the clock is wrong", func(w *world) { early(w, time.Minute); cert(w, domain, due) }, "", idle},
		{"and it was wrong for long", func(w *world) { early(w, clockLimit); cert(w, domain, due) }, "", keep},
		{"a self-signed certificate by a wrong clock", func(w *world) {
			early(w, time.Minute)
			cert(w, domain, func(st *certificate.State) { st.Live = certificate.Pair{} })
		}, "", keep},
		{"the first time, and the domain cannot be written down", func(w *world) { w.state = state{} }, remember, idle},
		{"half-way through a reset", func(w *world) { w.state.Reset = true; w.pod = podSeen{} }, "", erase},
		{"half-way through a reset that cannot go on", func(w *world) { w.state.Reset = true; w.pod = podSeen{} }, erase, idle},
	} {
		w := settled()
		c.change(w)
		if s := next(w, map[action]bool{c.failed: true}); s.do != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, s.do, s.cert.Action, c.want)
		}
	}
}

// What people are told of it.
func TestFaultsAreTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		state  status.State
		item   string
		says   []string
	}{
		{"a copy", func(w *world) { copyOf(w, another) }, status.Degraded, itemCopy, []string{"copy", "1.2.3.5", "prose-firstboot reset"}},
		{"a wrong clock", func(w *world) { w.clock = clock{made: t0.Add(24 * time.Hour), wrong: time.Second} }, status.Degraded, itemClock, []string{"14 March 2026", "15 March 2026", "waits"}},
		{"a clock that stays wrong", func(w *world) { w.clock = clock{made: t0.Add(24 * time.Hour), wrong: time.Hour} }, status.Degraded, itemClock, []string{"timedatectl"}},
		{"a disk that cannot be written", func(w *world) { w.readOnly = []string{stateDir} }, status.Degraded, itemDisk, []string{stateDir, "dmesg"}},
		{"another domain", func(w *world) { w.asked = "other.example" }, status.Degraded, itemSettings, []string{"other.example", "prose-firstboot reset"}},
	} {
		w := settled()
		c.change(w)
		list := items(seen{world: w, step: next(w, nil)})
		var text string
		for _, it := range list {
			if it.Key == c.item {
				text = strings.Join(append([]string{it.What, it.Why, it.Do}, it.Type...), " ")
			}
		}
		for _, want := range c.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q does not say %q", c.name, text, want)
			}
		}
		if got := overall(w, list); got != c.state {
			t.Errorf("%s: %s, want %s", c.name, got, c.state)
		}
	}
}

// DNS that led here when the certificates came and leads elsewhere now is told,
// though nothing is due.
func TestRecordsThatMovedAway(t *testing.T) {
	w := settled()
	w.reach = reach{"prose." + domain: {At: w.now, Findings: []preflight.Finding{another}}}
	for _, r := range judgeRecords(wantedRecords(domain, false, addrs("1.2.3.4"), apex{}), map[string]answer{
		"prose." + domain: {Addresses: addrs("1.2.3.5")}, domain: {Addresses: addrs("1.2.3.4")},
	}, addrs("1.2.3.4"), w.reach.over(w.certs), w.now) {
		if want := map[string]status.RecordState{"prose." + domain: status.Wrong, domain: status.Present}[r.Name]; want != "" && r.State != want {
			t.Errorf("%s: %s, want %s", r.Name, r.State, want)
		}
	}
	// What an order has found since counts more.
	cert(w, "prose."+domain, func(st *certificate.State) { st.Record.Preflight.At = w.now.Add(time.Second) })
	if got := w.reach.over(w.certs)["prose."+domain].Record.Preflight; len(got.Findings) != 0 {
		t.Errorf("older findings win: %v", got)
	}
}

// A machine whose only public address is one of version 6 is not asked for an A
// record.
func TestSixOnly(t *testing.T) {
	records := wantedRecords(domain, false, addrs("2a01:4f8::7", "10.0.0.5"), apex{})
	for _, r := range records {
		if r.Type == "A" {
			t.Errorf("%s: an A record is wanted: %+v", r.Name, r)
		}
	}
	for _, r := range judgeRecords(records, map[string]answer{domain: {Addresses: addrs("2a01:4f8::7")}, "prose." + domain: {Addresses: addrs("2a01:4f8::7")}}, addrs("2a01:4f8::7"), nil, t0) {
		if r.Type == "AAAA" && r.State != status.Present {
			t.Errorf("%s: %s", r.Name, r.State)
		}
	}
}

// The clock is compared with the program, and how long it has been wrong is
// counted by one that nobody sets.
func TestClock(t *testing.T) {
	made := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	up := time.Hour
	m := &machine{at: t.TempDir(), sinceBoot: func() time.Duration { return up }}
	for _, d := range []string{runDir, filepath.Dir(program)} {
		if err := os.MkdirAll(m.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if c := m.lookAtClock(time.Unix(0, 0)); c.early() {
		t.Errorf("without a program: %+v", c)
	}
	if err := os.WriteFile(m.path(program), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(m.path(program), made, made); err != nil {
		t.Fatal(err)
	}
	if c := m.lookAtClock(made.AddDate(73, 0, 0)); c.early() {
		t.Errorf("in 2099: %+v", c)
	}
	for _, step := range []struct {
		pass  time.Duration
		year  int
		holds bool
	}{{0, 1970, true}, {9 * time.Minute, 1970, true}, {time.Minute, 1971, false}, {time.Hour, 1970, false}} {
		up += step.pass
		c := m.lookAtClock(time.Date(step.year, 1, 1, 0, 0, 0, 0, time.UTC))
		if !c.early() || c.holds() != step.holds {
			t.Errorf("after %v more: %+v", step.pass, c)
		}
	}
	// After a restart it is given its time again.
	up = time.Minute
	if c := m.lookAtClock(time.Unix(0, 0)); !c.holds() {
		t.Errorf("after a restart: %+v", c)
	}
	up += clockLimit
	if c := m.lookAtClock(time.Unix(0, 0)); c.holds() {
		t.Errorf("long after a restart: %+v", c)
	}
	if c := m.lookAtClock(made); c.early() {
		t.Errorf("when it is right: %+v", c)
	}
}

func TestMachineID(t *testing.T) {
	m := &machine{at: t.TempDir()}
	if err := os.Mkdir(m.path("/etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, id := range []string{"", "uninitialized\n", "0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210"} {
		if err := os.WriteFile(m.path("/etc/machine-id"), []byte(id), 0o444); err != nil {
			t.Fatal(err)
		}
		got := m.machineID()
		if (got == "") != (len(id) < 32) || len(id) >= 32 && strings.Contains(got, id[:16]) {
			t.Errorf("%q: %q", id, got)
		}
		if before, ok := seen[got]; ok && got != "" {
			t.Errorf("%q is like %q", id, before)
		}
		seen[got] = id
		os.Remove(m.path("/etc/machine-id"))
	}
}
