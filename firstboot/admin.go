package firstboot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// createAdmin makes the account that the settings ask for, past the door. That
// somebody else was faster is seen at the next look.
func (a *agent) createAdmin(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.machine.nameWorkspace(ctx, or(w.settings.Company, w.settings.Domain)); err != nil {
		return err
	}
	admin := w.settings.Admin
	code, said, err := a.machine.tellPod(ctx, http.MethodPut, "/v1/init/first-account", map[string]string{
		"username": admin.Username, "password": admin.Password.Reveal(), "nickname": or(admin.Nickname, admin.Username),
	})
	if err != nil {
		return fmt.Errorf("creating the first account: %w", err)
	}
	a.pod.forgetAccount()
	if code != http.StatusCreated && code != http.StatusConflict {
		return fmt.Errorf("creating the first account: %s", said)
	}
	return nil
}

// longestName is of what upstream takes for the name of a workspace, in
// characters.
const longestName = 48

// nameWorkspace does what the dashboard asks for before it lets its owner in, and
// what only the claim may do through NGINX. A workspace that has begun stays as it
// is.
func (m *machine) nameWorkspace(ctx context.Context, name string) error {
	code, said, err := m.tellPod(ctx, http.MethodHead, "/v1/workspace", nil)
	if err == nil && code >= http.StatusInternalServerError {
		err = errors.New(said)
	}
	if err != nil {
		return fmt.Errorf("looking whether the workspace has a name: %w", err)
	}
	if code != http.StatusPreconditionFailed {
		return nil // it has, or this Pod has no such question
	}
	if r := []rune(name); len(r) > longestName {
		name = string(r[:longestName])
	}
	code, said, err = m.tellPod(ctx, http.MethodPut, "/v1/workspace", map[string]string{"name": name})
	if err == nil && code != http.StatusCreated && code != http.StatusConflict {
		err = errors.New(said)
	}
	if err != nil {
		return fmt.Errorf("naming the workspace: %w", err)
	}
	return nil
}

// tellPod makes one request to the API over loopback. It returns the status, and
// in words what the Pod says with it.
func (m *machine) tellPod(ctx context.Context, method, path string, body any) (int, string, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, m.dashboard+"/api"+path, nil)
	if err != nil {
		return 0, "", err
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodHead {
		req.Header.Set("If-Match", "*") // else upstream does not say
	}
	client := &http.Client{CheckRedirect: noRedirects, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	words := fmt.Sprintf("status %d", res.StatusCode)
	var said struct {
		Error string `json:"error"`
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if json.Unmarshal(b, &said) == nil && len(said.Error) < 100 && said.Error != "" {
		words = fmt.Sprintf("the Pod says %q (status %d)", said.Error, res.StatusCode)
	}
	return res.StatusCode, words, nil
}
