package door

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// askLimit is how long the Pod may take to say whether an account exists.
const askLimit = 5 * time.Second

// A question is what several requests want to know at once.
type question struct {
	done   chan struct{}
	exists bool   // an account
	epoch  string // that holds since
	err    error
}

// now asks the Pod whether an account exists, and gives the epoch. No answer is
// kept: after a factory reset the next request knows. Requests that come while
// one is asked share the next question, which begins after each of them, so that
// many visitors cost the Pod no more than one.
func (d *Door) now(ctx context.Context) (exists bool, epoch string, err error) {
	d.mu.Lock()
	q := d.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		d.next = q
		go d.answer(q)
	}
	d.mu.Unlock()
	select {
	case <-q.done:
		return q.exists, q.epoch, q.err
	case <-ctx.Done():
		return false, "", context.Cause(ctx)
	}
}

func (d *Door) answer(q *question) {
	defer close(q.done)
	d.asking.Lock()
	defer d.asking.Unlock()
	d.mu.Lock()
	d.next = nil // who comes from here on asks again
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	if q.exists, q.err = d.ask(ctx); q.err == nil {
		q.epoch, q.err = note(d.State, q.exists)
	}
}

// ask asks the Pod, until its answer can be believed. The API says "no account"
// too when the server behind it is down: an account that was seen is gone only
// when the API says so before and after the server has answered.
func (d *Door) ask(ctx context.Context) (exists bool, err error) {
	if exists, err = d.firstAccount(ctx); err != nil || exists {
		return exists, err
	}
	before, err := seen(d.State)
	if err != nil || !before {
		return false, err
	}
	code, err := d.status(ctx, http.MethodGet, "/pod/version")
	if err != nil {
		return false, err
	}
	if code != http.StatusOK {
		return false, fmt.Errorf("asking whether the Pod is whole: status %d", code)
	}
	return d.firstAccount(ctx)
}

// firstAccount asks once. Upstream answers 204 when there is none, 200 or, before
// 0.17, 409 when there is one.
func (d *Door) firstAccount(ctx context.Context) (bool, error) {
	code, err := d.status(ctx, http.MethodHead, "/v1/init/first-account")
	switch {
	case err != nil:
		return false, err
	case code == http.StatusNoContent:
		return false, nil
	case code == http.StatusOK, code == http.StatusConflict:
		return true, nil
	}
	return false, fmt.Errorf("asking whether an account exists: status %d", code)
}

// client keeps one connection, and knows no proxy.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (d *Door) status(ctx context.Context, method, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.API+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking the Pod: %w", err)
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10) // else the connection is of no more use
	return res.StatusCode, nil
}
