package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
)

// One try that hangs does not hold back the next.
func TestEagerBesideAHang(t *testing.T) {
	var tries atomic.Int32
	err := eager(t.Context(), time.Millisecond, time.Hour, func(ctx context.Context) error {
		switch tries.Add(1) {
		case 1:
			<-ctx.Done()
			return ctx.Err()
		case 2:
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || tries.Load() < 3 {
		t.Error(err, tries.Load())
	}
}

func TestEagerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := eager(ctx, time.Millisecond, time.Hour, func(context.Context) error {
		cancel(errors.New("the time is over"))
		return errors.New("the door is shut")
	})
	if err == nil || !strings.Contains(err.Error(), "the time is over") {
		t.Error(err)
	}
}

// Whoever has signed the certificates, the ports answer; only the authority's
// are trusted; a page that says no is no answer.
func TestMoments(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	if err := network(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := defaults()
	certificate, pool := signed(t, 1, s.Domain, "prose."+s.Domain, "admin.prose."+s.Domain)
	_, other := signed(t, 2, s.Domain)
	var app, dashboard atomic.Int32
	app.Store(http.StatusOK)
	dashboard.Store(http.StatusForbidden)
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "prose."+s.Domain {
			w.WriteHeader(int(app.Load()))
		} else {
			w.WriteHeader(int(dashboard.Load()))
		}
	})}
	go server.ServeTLS(listen(t, "443"), "", "")
	t.Cleanup(func() { server.Close() })
	go xmppServer(listen(t, "5222"), &certificate, true)

	try := func(r *run, line string, within time.Duration) error {
		step, _, err := parseStep(line)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return r.step(ctx, step)
	}
	with := func(o *outside) *run { return &run{Scenario: s, config: Config{Accel: boot.KVM}, outside: o} }
	trusting, doubting := with(newOutside(pool)), with(newOutside(other))
	for what, err := range map[string]error{
		"ports":                    try(trusting, "ports", time.Minute),
		"ports, another authority": try(doubting, "ports", time.Minute),
		"trusted certificates":     try(trusting, "trusted", time.Minute),
		"the dashboard, unlocked":  func() error { dashboard.Store(http.StatusOK); return try(trusting, "trusted", time.Minute) }(),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	fails(t, "another authority", "unknown authority", try(doubting, "trusted", 2*time.Second))
	app.Store(http.StatusBadGateway)
	fails(t, "a web app that is not there", "status 502", try(trusting, "ports", 2*time.Second))
}
