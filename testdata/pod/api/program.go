package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
	"github.com/prose-im/prose-image/testdata/pod/version"
)

// A program is the process over all its instances.
type program struct {
	log        *podlog.Logger
	restart    chan struct{} // a request for another instance
	restarting atomic.Bool

	web *http.Server // of the running instance
	db  *database
}

// panics says what upstream's task would die of.
func (p *program) panics(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "thread 'tokio-runtime-worker' panicked:\n"+format+"\n", args...)
}

// again asks for another instance.
func (p *program) again() {
	p.restarting.Store(true)
	select {
	case p.restart <- struct{}{}:
	default:
	}
}

// serve ends the previous instance and listens for the next. An address that
// cannot be bound is a panic upstream.
func (p *program) serve(address string, routes http.Handler) {
	p.stop()
	p.restarting.Store(false)
	listener, err := prosetoml.Listen(address)
	if err != nil {
		p.panics("%v", err)
		return
	}
	p.log.Infof("API listens on %s", address)
	p.web = &http.Server{Handler: p.guard(routes), ReadHeaderTimeout: 10 * time.Second}
	go p.web.Serve(listener)
}

// stop lets running requests end, for at most five seconds.
func (p *program) stop() {
	if p.web != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if p.web.Shutdown(ctx) != nil {
			p.web.Close()
		}
		p.web = nil
	}
	if p.db != nil {
		p.db.close()
		p.db = nil
	}
}

// guard answers 503 while a restart is under way.
func (p *program) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.restarting.Load() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "restarting", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// utility is what is served without a configuration: enough to come back once
// there is one. Anyone may reload.
func (p *program) utility() http.Handler {
	mux := http.NewServeMux()
	p.common(mux)
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		client := newClient()
		res, err := client.Post("http://prose-pod-server:8080/lifecycle/reload", "", nil)
		if err != nil {
			p.log.Errorf("%v", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		res.Body.Close()
		w.WriteHeader(http.StatusAccepted)
		p.again()
	})
	return mux
}

// common has the routes that need nothing of the configuration.
func (p *program) common(mux *http.ServeMux) {
	for _, path := range []string{"/health", "/healthz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) })
	}
	for _, path := range []string{"/version", "/v1/version"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			reply(w, http.StatusOK, version.Of(version.API))
		})
	}
}
