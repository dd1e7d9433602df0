package certificate

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine whose disk is a copy goes on with nothing that the original has
// begun, and loses no certificate.
func TestForget(t *testing.T) {
	w := newWorld(t)
	w.rightDNS()
	w.settle()
	account := func() string {
		found, err := filepath.Glob(w.keeper.Paths.State + "/*/account.key")
		if err != nil || len(found) > 1 {
			t.Fatal(found, err)
		}
		if len(found) == 0 {
			return ""
		}
		text, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	original := account()
	// An order that the original cannot bring to its end before the copy is made.
	if err := w.keeper.Renew(domain); err != nil {
		t.Fatal(err)
	}
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/finalize-order/") {
			return false
		}
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	w.settle()
	w.proxy.set(nil)
	before := w.observe()
	if before[domain].Record.Order == nil {
		t.Fatalf("no order is begun: %+v", before[domain].Record)
	}

	for range 2 { // a killed run does it again
		if err := w.keeper.Forget(); err != nil {
			t.Fatal(err)
		}
	}
	if account() != "" {
		t.Error("the account is still there")
	}
	for host, st := range w.observe() {
		if st.Record.Order != nil || !st.Record.Preflight.At.IsZero() || len(st.Record.Tries) != len(before[host].Record.Tries) || st.Live != before[host].Live {
			t.Errorf("%s: %+v", host, st)
		}
	}
	w.clock = 25 * time.Hour // past what the failure makes it wait
	w.settle()
	w.good()
	if got := account(); got == "" || got == original {
		t.Errorf("the account is %.40q", got)
	}
	if got := len(w.observe()[domain].Record.Tries) - len(before[domain].Record.Tries); got != 1 {
		t.Errorf("%d orders, want one of its own", got)
	}
}
