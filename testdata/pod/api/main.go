// Prose-pod-api stands in for upstream's API: strict about its configuration,
// patient with the server for ten seconds, the author of Prosody's full
// configuration, and the HTTP API of the dashboard.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
)

func main() {
	log := podlog.New(os.Stdout, "prose_pod_api")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)

	p := &program{log: log, restart: make(chan struct{}, 1)}
	for first := true; ; first = false {
		done := make(chan bool, 1)
		go func() { done <- p.run(ctx, first) }()
		select {
		case <-ctx.Done():
			p.stop()
			log.Infof("stopping on a signal")
			return
		case ok := <-done:
			if !ok {
				os.Exit(1)
			}
		}
		// Whether it serves or not: only a signal or a request moves it on.
		select {
		case <-ctx.Done():
			p.stop()
			log.Infof("stopping on a signal")
			return
		case <-hangup:
			log.Warnf("reloading on a signal")
		case <-p.restart:
		}
		p.restarting.Store(true)
		log.Warnf("starting anew")
	}
}

// run starts one instance. It reports false when the process has to end, and
// true both when the instance serves and when it has died like upstream's task
// does: the process stays and listens on nothing.
func (p *program) run(ctx context.Context, first bool) bool {
	conf, err := loadConfig(prosetoml.Path, os.Environ())
	if err != nil && first {
		p.log.Errorf("Startup error: %s: %v", invalid, err)
		return false
	}
	if err != nil {
		p.log.Warnf("no usable configuration: only the utility routes are served")
		p.serve("0.0.0.0:8080", p.utility())
		return true
	}
	p.log.Set(conf.doc.String("log.level", "info"), conf.doc.String("log.format", "json"), conf.doc.String("log.timer", "time"))
	db, err := openDatabase(conf.database)
	if err != nil {
		p.panics("Could not connect to the database.: %v", err)
		return true
	}
	in := &instance{program: p, conf: conf, db: db, client: newClient()}
	outcome, err := in.start(ctx)
	switch {
	case err != nil:
		p.log.Errorf("Startup error: %v", err)
		return false
	case outcome == panicked:
		return true
	case outcome == misconfigured:
		p.serve(conf.address, p.utility())
	default:
		p.db = db
		p.serve(conf.address, in.routes())
	}
	return true
}
