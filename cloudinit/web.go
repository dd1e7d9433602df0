package cloudinit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// FetchLimit is how long a metadata service is asked before the machine goes
	// on without it.
	FetchLimit = 3 * time.Minute
	askLimit   = 10 * time.Second // one question
)

// Web asks a metadata service: past every proxy, without following a redirect,
// at most [MaxInput] bytes of each answer, and again while there is no answer or
// one that only somebody else can have given.
type Web struct {
	ctx    context.Context
	client *http.Client
	base   string        // in the place of the address that all of them have
	pause  time.Duration // before the second question; doubled up to eight seconds
	header http.Header   // of every question: tokens
}

// NewWeb asks until ctx ends, which must have a deadline; see [FetchLimit].
func NewWeb(ctx context.Context) *Web {
	return &Web{ctx: ctx, base: "http://169.254.169.254", pause: time.Second, header: http.Header{}, client: &http.Client{
		Timeout:       askLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // never the environment's
			DialContext:            (&net.Dialer{Timeout: askLimit}).DialContext,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}
}

// get is what is at a path; empty when the service has nothing there.
func (w *Web) get(path string, headers ...string) ([]byte, error) {
	b, err := w.ask(http.MethodGet, path, headers...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// text is get for one line.
func (w *Web) text(path string, headers ...string) (string, error) {
	b, err := w.get(path, headers...)
	return strings.TrimSpace(string(b)), err
}

// ask asks until there is an answer. headers are names and values in turn. An
// answer of 404 is fs.ErrNotExist.
func (w *Web) ask(method, path string, headers ...string) ([]byte, error) {
	var last error
	for pause := w.pause; ; pause = min(2*pause, 8*time.Second) {
		b, again, err := w.once(method, path, headers)
		if !again {
			return b, err
		}
		// That the time is over says less than what came before.
		if w.ctx.Err() == nil || last == nil {
			last = err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-w.ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("asking the platform for %s: %w; last: %w", path, context.Cause(w.ctx), last)
		}
	}
}

func (w *Web) once(method, path string, headers []string) (b []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(w.ctx, method, w.base+path, nil)
	if err != nil {
		return nil, false, err
	}
	req.Header = w.header.Clone()
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, true, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNoContent:
		return nil, false, nil
	case res.StatusCode == http.StatusNotFound:
		return nil, false, fmt.Errorf("asking the platform for %s: %w", path, fs.ErrNotExist)
	case res.StatusCode/100 == 3:
		return nil, true, fmt.Errorf("status %d: a redirect, which no platform answers with", res.StatusCode)
	case res.StatusCode != http.StatusOK:
		return nil, true, fmt.Errorf("status %d", res.StatusCode)
	}
	b, err = io.ReadAll(io.LimitReader(res.Body, MaxInput+1))
	switch {
	case err != nil:
		return nil, true, err
	case len(b) > MaxInput:
		return nil, false, fmt.Errorf("asking the platform for %s: larger than %d bytes", path, MaxInput)
	case isPage(b):
		return nil, true, errors.New("a web page: a network that wants people to log in answers for the platform")
	}
	return b, false, nil
}

// isPage tells HTML, which neither user-data nor metadata is.
func isPage(b []byte) bool {
	b = bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(b[:min(len(b), 1024)], []byte("\ufeff"))))
	for _, start := range []string{"<!doctype html", "<html", "<head", "<body"} {
		if bytes.HasPrefix(b, []byte(start)) {
			return true
		}
	}
	return false
}

// addresses are those of words that are any.
func addresses(words ...string) []netip.Addr {
	var out []netip.Addr
	for _, word := range words {
		if a, err := netip.ParseAddr(strings.TrimSpace(word)); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// document reads JSON at a path into v. There has to be one.
func (w *Web) document(path string, v any, headers ...string) error {
	b, err := w.ask(http.MethodGet, path, headers...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("asking the platform for %s: %w", path, notJSON(err))
	}
	return nil
}
