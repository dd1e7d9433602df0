package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// momentCommands tell, from elsewhere and without a login that would slow it,
// when a machine begins to answer.
var momentCommands = []Command{
	{Name: "ports", do: func(ctx context.Context, r *run, _ []string) error { return r.moment(ctx, false) },
		Doc: "Waits until the web app and the dashboard answer over HTTPS (the dashboard may refuse) and port 5222 does STARTTLS, whoever has signed the certificates."},
	{Name: "trusted", do: func(ctx context.Context, r *run, _ []string) error { return r.moment(ctx, true) },
		Doc: "Waits for the same with certificates from the authority."},
}

// A try is begun every so often whether or not the one before has ended: on a
// machine whose network is not up yet it would hang for its whole time, and
// the moment would be missed by as much.
const (
	tryEvery = time.Second
	tryFor   = 10 * time.Second
)

// moment waits for all that people use.
func (r *run) moment(ctx context.Context, trusted bool) error {
	config := func(name string) *tls.Config {
		if trusted {
			return r.outside.trust(name)
		}
		return &tls.Config{ServerName: name, InsecureSkipVerify: true}
	}
	answers := func(name string, statuses ...int) func(context.Context) error {
		return func(ctx context.Context) error { return r.outside.answers(ctx, name, config(name), statuses) }
	}
	checks := []func(context.Context) error{
		answers("prose."+r.Domain, http.StatusOK),
		answers("admin.prose."+r.Domain, http.StatusOK, http.StatusForbidden),
		func(ctx context.Context) error {
			_, err := r.outside.startTLS(ctx, r.Domain, config(r.Domain))
			return err
		},
	}
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { errs[i] = eager(ctx, tryEvery, tryFor, check) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// eager begins a try every so often, each for so long at most, until one
// succeeds or ctx ends. It says then what the last one lacked.
func eager(ctx context.Context, every, long time.Duration, try func(context.Context) error) error {
	tries, stop := context.WithCancel(ctx)
	defer stop()
	results := make(chan error)
	begin := time.NewTicker(every)
	defer begin.Stop()
	var last error
	for {
		go func() {
			ctx, cancel := context.WithTimeout(tries, long)
			defer cancel()
			err := try(ctx)
			select {
			case results <- err:
			case <-tries.Done():
			}
		}()
		for waiting := true; waiting; {
			select {
			case err := <-results:
				if err == nil {
					return nil
				}
				last = err
			case <-begin.C:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("%w, and still: %w", context.Cause(ctx), orNone(last))
			}
		}
	}
}

var errNoAnswer = errors.New("no try has ended")

func orNone(err error) error {
	if err == nil {
		return errNoAnswer
	}
	return err
}

// answers asks for the first page of a name over a connection of its own.
func (o *outside) answers(ctx context.Context, name string, config *tls.Config, statuses []int) error {
	client := &http.Client{
		CheckRedirect: o.web.CheckRedirect,
		Transport:     &http.Transport{DialContext: o.dial, TLSClientConfig: config, DisableKeepAlives: true},
	}
	url := "https://" + net.JoinHostPort(name, "443") + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Host = name
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if !slices.Contains(statuses, res.StatusCode) {
		return fmt.Errorf("GET %s: status %d", url, res.StatusCode)
	}
	return nil
}
