package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// accounts speaks to mod_pod_accounts in Prosody.
type accounts struct {
	base string // http://host:port
	key  string
}

// An account is one account of the Pod.
type account struct {
	JID  string `json:"jid"`
	Role string `json:"role"`
}

// A statusError is an answer other than success.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string { return fmt.Sprintf("prosody answered %d: %s", e.code, e.body) }

var client = &http.Client{Timeout: 10 * time.Second}

// call sends a request and decodes the answer into out.
func (a *accounts) call(ctx context.Context, method, path string, auth string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+"/pod_accounts"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Pod-Key", a.key)
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &statusError{res.StatusCode, string(text)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// list returns every account, service accounts too.
func (a *accounts) list(ctx context.Context) ([]account, error) {
	var out struct {
		Users []account `json:"users"`
	}
	err := a.call(ctx, http.MethodGet, "/users", "", nil, &out)
	return out.Users, err
}

// put creates an account; with replace an existing one gets the password.
func (a *accounts) put(ctx context.Context, name, password, role string, replace bool) error {
	in := map[string]any{"password": password, "role": role, "replace": replace}
	return a.call(ctx, http.MethodPut, "/users/"+url.PathEscape(name), "", in, nil)
}

// reloads returns how many reloads Prosody has applied since it started.
func (a *accounts) reloads(ctx context.Context) (int, error) {
	var out struct{ Applied int }
	err := a.call(ctx, http.MethodGet, "/reloads", "", nil, &out)
	return out.Applied, err
}

// self returns the account behind an Authorization header.
func (a *accounts) self(ctx context.Context, auth string) (account, error) {
	var out account
	err := a.call(ctx, http.MethodGet, "/self", auth, nil, &out)
	return out, err
}
