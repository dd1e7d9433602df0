package firstboot

import (
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

// What was found at an address counts at once, though DNS said nothing new.
func TestRecordsAreJudgedAnew(t *testing.T) {
	w := settled()
	said := map[string]answer{}
	for _, r := range wantedRecords(domain, false, nil, apex{}) {
		said[r.Name] = answer{Addresses: addrs("5.6.7.8")}
	}
	asked := w.now.Add(-time.Second)
	tell := &teller{machine: &machine{at: t.TempDir(), clock: func() time.Time { return w.now }}, logf: t.Logf, answers: said, looked: asked}
	state := func() status.RecordState {
		for _, r := range tell.look(t.Context(), w) {
			if r.Name == "prose."+domain {
				return r.State
			}
		}
		return ""
	}
	if got := state(); got != status.Present {
		t.Errorf("%s", got)
	}
	cert(w, "prose."+domain, func(st *certificate.State) {
		st.Record.Preflight.Findings = []preflight.Finding{{Kind: preflight.Foreign, Type: "A", Found: []string{"5.6.7.8"}}}
	})
	if got := state(); got != status.Wrong {
		t.Errorf("another machine answers there: %s", got)
	}
	if tell.looked != asked {
		t.Error("DNS was asked again within a second")
	}
	// All that was remembered is there, but a look found that it no longer is.
	cert(w, "prose."+domain, func(st *certificate.State) {
		st.Record.Preflight.Findings = []preflight.Finding{{Kind: preflight.NoAddress, Type: "A"}}
	})
	w.now = asked.Add(lookSoon)
	state()
	if tell.looked != w.now {
		t.Error("DNS was not asked again about a name that a look did not find")
	}
	tell.answers = said
	// A name that was not asked about is.
	w.now = w.now.Add(time.Second)
	delete(said, domain)
	state()
	if tell.looked != w.now {
		t.Error("DNS was not asked about a new name")
	}
}
