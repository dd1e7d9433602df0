// Prose-pod-server stands in for the entry program of upstream's server image.
// It is process 1, writes Prosody's bootstrap configuration, runs the real
// Prosody as its child and serves the internal Server API.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
)

func main() {
	log := podlog.New(os.Stdout, "prose_pod_server")
	if err := run(log); err != nil {
		log.Errorf("%v", err)
		os.Exit(1)
	}
}

func run(log *podlog.Logger) error {
	conf, err := loadConfig(prosetoml.Path, os.Environ())
	if err != nil {
		log.Errorf("%s: %v", invalid, err)
		return errors.New("stopping")
	}
	log.Set(conf.logLevel, conf.logFormat, conf.logTimer)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)

	listener, err := prosetoml.Listen(conf.address)
	if err != nil {
		return err
	}
	s := newServer(log, conf)
	defer s.kill()
	failed := make(chan error, 2)
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { failed <- web.Serve(listener) }()
	log.Infof("Server API listens on %s", conf.address)
	go func() {
		start := time.Now()
		if err := s.bootstrap(); err != nil {
			failed <- err
			return
		}
		log.Infof("started in %v", time.Since(start).Round(time.Millisecond))
	}()
	for {
		select {
		case <-ctx.Done():
			log.Warnf("stopping on a signal")
			return nil
		case <-hangup:
			log.Warnf("reloading on a signal")
			go s.hangup()
		case err := <-failed:
			return err
		}
	}
}
