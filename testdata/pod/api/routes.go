package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
	"github.com/prose-im/prose-image/testdata/pod/version"
)

// emptyConfig is what a factory reset leaves of prose.toml.
const emptyConfig = "# Prose Pod API configuration file\n# Emptied by a factory reset.\n"

func (in *instance) routes() http.Handler {
	mux := http.NewServeMux()
	in.common(mux)
	for _, base := range []string{"", "/v1"} {
		mux.HandleFunc("GET "+base+"/pod/version", in.podVersion)
		mux.HandleFunc("GET "+base+"/server/version", in.serverVersion)
	}
	mux.HandleFunc("HEAD /v1/workspace", in.isWorkspace)
	mux.HandleFunc("GET /v1/workspace", in.getWorkspace)
	mux.HandleFunc("PUT /v1/workspace", in.putWorkspace)
	mux.HandleFunc("HEAD /v1/init/first-account", in.isFirstAccount)
	mux.HandleFunc("PUT /v1/init/first-account", in.putFirstAccount)
	mux.HandleFunc("POST /v1/login", in.login)
	mux.HandleFunc("POST /reload", in.reload)
	mux.HandleFunc("DELETE /{$}", in.factoryReset)
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// fail answers with upstream's error body: a code, and more only on request.
func (in *instance) fail(w http.ResponseWriter, status int, code string, cause error) {
	if status >= 500 {
		in.log.Errorf("%s: %v", code, cause)
	}
	body := map[string]string{"error": code}
	if in.conf.detailed && cause != nil {
		body["message"] = cause.Error()
	}
	reply(w, status, body)
}

func (in *instance) internal(w http.ResponseWriter, err error) {
	in.fail(w, http.StatusInternalServerError, "internal_server_error", err)
}

// body decodes a request's JSON strictly and answers the request if it is bad.
func (in *instance) body(w http.ResponseWriter, r *http.Request, v any) bool {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		in.fail(w, http.StatusUnsupportedMediaType, "unknown", nil)
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2<<20))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return true
	case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		in.fail(w, http.StatusBadRequest, "unknown", err)
	default:
		in.fail(w, http.StatusUnprocessableEntity, "unknown", err)
	}
	return false
}

// call sends a request to the server or Prosody, and decodes the answer of a
// success into out. The status is 0 when there was no answer.
func (in *instance) call(ctx context.Context, method, url, auth string, body, out any) (int, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := in.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode >= 300:
		return res.StatusCode, fmt.Errorf("%s answered %d", url, res.StatusCode)
	case out == nil:
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(text, out)
}

// askVersion asks Prosody, which knows only once the full configuration is
// applied: that is what makes a success worth something.
func (in *instance) askVersion(ctx context.Context) (version.Info, error) {
	var v version.Info
	_, err := in.call(ctx, http.MethodGet, in.conf.prosody+"/prose_version", "", nil, &v)
	return v, err
}

func (in *instance) podVersion(w http.ResponseWriter, r *http.Request) {
	server, err := in.askVersion(r.Context())
	if err != nil {
		in.internal(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]version.Info{"api": version.Of(version.API), "server": server})
}

func (in *instance) serverVersion(w http.ResponseWriter, r *http.Request) {
	server, err := in.askVersion(r.Context())
	if err != nil {
		in.internal(w, err)
		return
	}
	reply(w, http.StatusOK, server)
}

func (in *instance) isWorkspace(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("If-Match") == "":
		w.WriteHeader(http.StatusBadRequest)
	case r.Header.Get("If-Match") != "*":
		w.WriteHeader(http.StatusPreconditionRequired)
	case in.db.get().WorkspaceInitialized:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusPreconditionFailed)
	}
}

func (in *instance) workspace(ctx context.Context) (json.RawMessage, error) {
	var space json.RawMessage
	_, err := in.call(ctx, http.MethodGet, in.conf.server+"/workspace", "", nil, &space)
	return space, err
}

func (in *instance) getWorkspace(w http.ResponseWriter, r *http.Request) {
	space, err := in.workspace(r.Context())
	if err != nil {
		in.internal(w, err)
		return
	}
	reply(w, http.StatusOK, space)
}

func (in *instance) putWorkspace(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name        string  `json:"name"`
		AccentColor *string `json:"accent_color,omitempty"`
	}
	if !in.body(w, r, &req) {
		return
	}
	if !fits(req.Name) {
		in.fail(w, http.StatusUnprocessableEntity, "unknown", nil)
		return
	}
	status, err := in.call(r.Context(), http.MethodPut, in.conf.server+"/workspace-init", "", req, nil)
	if status == http.StatusGone {
		in.fail(w, http.StatusConflict, "workspace_already_initialized", err)
		return
	}
	if err == nil {
		err = in.db.update(func(d *data) { d.WorkspaceInitialized = true })
	}
	var space json.RawMessage
	if err == nil {
		space, err = in.workspace(r.Context())
	}
	if err != nil {
		in.internal(w, err)
		return
	}
	w.Header().Set("Location", "/v1/workspace")
	reply(w, http.StatusCreated, space)
}

// fits is upstream's rule for names that people see.
func fits(name string) bool {
	n := len([]rune(name))
	return n >= 1 && n <= 48 && strings.IndexFunc(name, unicode.IsControl) < 0
}

// node is a plain subset of the localparts of RFC 7622.
var node = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (in *instance) accounts(ctx context.Context) (int, error) {
	var stats struct{ Count int }
	_, err := in.call(ctx, http.MethodGet, in.conf.server+"/users-util/stats", "", nil, &stats)
	return stats.Count, err
}

// isFirstAccount takes a failure for "no account", as upstream does.
func (in *instance) isFirstAccount(w http.ResponseWriter, r *http.Request) {
	if n, err := in.accounts(r.Context()); err != nil || n == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (in *instance) putFirstAccount(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Nickname string `json:"nickname"`
	}
	if !in.body(w, r, &req) {
		return
	}
	switch {
	case !node.MatchString(req.Username) || !fits(req.Nickname):
		in.fail(w, http.StatusUnprocessableEntity, "unknown", nil)
		return
	case len([]rune(req.Password)) < in.conf.minPassword:
		in.fail(w, http.StatusBadRequest, "invalid_password", nil)
		return
	}
	n, err := in.accounts(r.Context())
	if err != nil {
		in.internal(w, err)
		return
	}
	status := http.StatusConflict
	if n == 0 {
		account := map[string]string{"username": req.Username, "password": req.Password}
		status, err = in.call(r.Context(), http.MethodPut, in.conf.server+"/init/first-account", "", account, nil)
	}
	if status == http.StatusConflict {
		in.fail(w, http.StatusConflict, "first_account_already_created", nil)
		return
	}
	if err == nil {
		err = in.db.update(func(d *data) { d.ChosenDomain = in.conf.domain })
	}
	if err != nil {
		in.internal(w, err)
		return
	}
	jid := req.Username + "@" + in.conf.domain
	w.Header().Set("Location", "/v1/members/"+jid)
	reply(w, http.StatusCreated, map[string]string{"jid": jid, "role": "ADMIN"})
}

// check asks Prosody whether Basic credentials are right and for a token.
func (in *instance) check(ctx context.Context, auth string) (token string, status int, err error) {
	var out struct{ Token string }
	status, err = in.call(ctx, http.MethodPost, in.conf.prosody+"/pod_accounts/login", auth, nil, &out)
	return out.Token, status, err
}

func (in *instance) login(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := r.BasicAuth(); !ok {
		in.fail(w, http.StatusUnauthorized, "unauthorized", nil)
		return
	}
	token, status, err := in.check(r.Context(), r.Header.Get("Authorization"))
	switch {
	case status == http.StatusUnauthorized:
		in.fail(w, http.StatusUnauthorized, "invalid_credentials", err)
	case err != nil:
		in.internal(w, err)
	default:
		reply(w, http.StatusOK, map[string]string{"token": token})
	}
}

// admin returns the JID behind the request's token, or answers the request when
// that is not an administrator.
func (in *instance) admin(w http.ResponseWriter, r *http.Request) (jid string, ok bool) {
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "Bearer ") {
		in.fail(w, http.StatusUnauthorized, "unauthorized", nil)
		return "", false
	}
	var me struct {
		JID  string `json:"jid"`
		Role string `json:"primary_role"`
	}
	status, err := in.call(r.Context(), http.MethodGet, in.conf.server+"/users-util/self", auth, nil, &me)
	switch {
	case status == http.StatusUnauthorized:
		in.fail(w, http.StatusUnauthorized, "invalid_auth_token", err)
	case err != nil:
		in.internal(w, err)
	case me.Role != "prosody:admin" && me.Role != "prosody:operator":
		in.fail(w, http.StatusForbidden, "forbidden", nil)
	default:
		return me.JID, true
	}
	return "", false
}

func (in *instance) reload(w http.ResponseWriter, r *http.Request) {
	if _, ok := in.admin(w, r); !ok {
		return
	}
	// Upstream looks only at whether the server answered, not at what.
	status, err := in.call(r.Context(), http.MethodPost, in.conf.server+"/lifecycle/reload", "", nil, nil)
	if status == 0 {
		in.internal(w, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	in.again()
}

// codes are the confirmation codes of factory resets.
type codes struct {
	mu   sync.Mutex
	code string
	ends time.Time
}

func (c *codes) issue() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.code, c.ends = rand.Text(), time.Now().Add(5*time.Minute)
	return c.code
}

func (c *codes) use(code string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := code != "" && code == c.code && time.Now().Before(c.ends)
	if ok {
		c.code = ""
	}
	return ok
}

// factoryReset wants the password first, and then the code that this gave.
func (in *instance) factoryReset(w http.ResponseWriter, r *http.Request) {
	jid, ok := in.admin(w, r)
	if !ok {
		return
	}
	var req struct {
		Password     *string `json:"password"`
		Confirmation *string `json:"confirmation"`
	}
	if !in.body(w, r, &req) {
		return
	}
	switch {
	case req.Password != nil && req.Confirmation == nil:
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(jid+":"+*req.Password))
		if _, status, err := in.check(r.Context(), basic); err != nil {
			if status == http.StatusUnauthorized {
				in.fail(w, http.StatusUnauthorized, "invalid_credentials", err)
				return
			}
			in.internal(w, err)
			return
		}
		reply(w, http.StatusAccepted, map[string]string{"confirmation": in.codes.issue()})
	case req.Confirmation != nil && req.Password == nil:
		if !in.codes.use(*req.Confirmation) {
			in.fail(w, http.StatusBadRequest, "invalid_confirmation_code", nil)
			return
		}
		in.log.Warnf("factory reset")
		_, err := in.call(r.Context(), http.MethodPost, in.conf.server+"/lifecycle/factory-reset", "", nil, nil)
		if err == nil {
			err = in.db.empty()
		}
		if err == nil {
			err = emptyConfigFile()
		}
		if err != nil {
			in.internal(w, err)
			return
		}
		w.WriteHeader(http.StatusResetContent)
		in.again()
	default:
		in.fail(w, http.StatusUnprocessableEntity, "unknown", nil)
	}
}

// emptyConfigFile truncates in place: the file's directory need not be writable.
func emptyConfigFile() error {
	f, err := os.OpenFile(prosetoml.Path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(emptyConfig); err != nil {
		return err
	}
	return f.Close()
}
