package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
)

// ServeHTTP serves the Server API. Which routes there are depends on the state;
// every other request gets the fault of that state. Nothing is authenticated:
// upstream's protection is that the port is not published.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conf, front, back := s.state()
	s.log.Debugf("%s %s", r.Method, r.URL.Path)
	switch route := r.Method + " " + r.URL.Path; {
	case route == "GET /health" || route == "GET /backend/health":
		health(w, back)
		return
	case route == "GET /config-health" || route == "GET /frontend/health":
		health(w, front)
		return
	case route == "POST /lifecycle/reload" && (back == nil || back == stopped):
		health(w, s.reload())
		return
	case route == "POST /lifecycle/backend-restart" && front == nil:
		health(w, s.restartBack())
		return
	}
	if f := either(front, back); f != nil {
		f.write(w)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /lifecycle/frontend-reload":
		s.lifecycle.Lock()
		defer s.lifecycle.Unlock()
		health(w, s.reloadFront(conf))
	case "POST /lifecycle/backend-reload":
		s.lifecycle.Lock()
		defer s.lifecycle.Unlock()
		health(w, s.reloadBack())
	case "POST /lifecycle/factory-reset":
		if f := s.factoryReset(); f != nil {
			f.write(w)
			return
		}
		reply(w, http.StatusResetContent, nil)
	case "PUT /init/first-account":
		s.firstAccount(w, r)
	case "PUT /workspace-init":
		s.initWorkspace(w, r)
	case "GET /workspace":
		s.mu.Lock()
		space := s.space
		s.mu.Unlock()
		reply(w, http.StatusOK, space)
	case "GET /users-util/stats":
		members, err := s.withRole(r, "prosody:member", "prosody:admin", "prosody:operator")
		if err != nil {
			s.internal(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]int{"count": len(members)})
	case "GET /users-util/admin-jids":
		admins, err := s.withRole(r, "prosody:admin")
		if err != nil {
			s.internal(w, err)
			return
		}
		reply(w, http.StatusOK, admins)
	case "GET /users-util/self":
		me, err := s.accounts.self(r.Context(), r.Header.Get("Authorization"))
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusUnauthorized {
			(&fault{401, 0, "AUTH_ERROR", "UNAUTHORIZED", "Unauthorized", "Log in again."}).write(w)
			return
		}
		if err != nil {
			s.internal(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]string{"jid": me.JID, "primary_role": me.Role})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func health(w http.ResponseWriter, f *fault) {
	if f != nil {
		f.write(w)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *server) internal(w http.ResponseWriter, err error) {
	s.log.Errorf("%v", err)
	internal("INTERNAL_ERROR").write(w)
}

// withRole lists the accounts that have one of roles. Service accounts have
// none of those that are asked for.
func (s *server) withRole(r *http.Request, roles ...string) ([]string, error) {
	list, err := s.accounts.list(r.Context())
	jids := []string{}
	for _, a := range list {
		if slices.Contains(roles, a.Role) {
			jids = append(jids, a.JID)
		}
	}
	return jids, err
}

// body decodes a request's JSON strictly and answers the request if it is bad.
func body(w http.ResponseWriter, r *http.Request, v any) bool {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return false
	}
	d := json.NewDecoder(io.LimitReader(r.Body, 2<<20))
	d.DisallowUnknownFields()
	if d.Decode(v) != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return false
	}
	return true
}

func (s *server) firstAccount(w http.ResponseWriter, r *http.Request) {
	var in struct{ Username, Password string }
	if !body(w, r, &in) {
		return
	}
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	const role = "prosody:admin"
	admins, err := s.withRole(r, role)
	if err != nil {
		s.internal(w, err)
		return
	}
	if len(admins) > 0 {
		conflict("FIRST_ACCOUNT_ALREADY_CREATED", "There is a first account").write(w)
		return
	}
	err = s.accounts.put(r.Context(), in.Username, in.Password, role, false)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusConflict:
		conflict("USERNAME_ALREADY_TAKEN", "The name is taken").write(w)
	case err != nil:
		s.internal(w, err)
	default:
		reply(w, http.StatusOK, map[string]string{"username": in.Username, "role": role})
	}
}

// initWorkspace stays open until an account with the role of a member exists:
// the first account, an admin, does not close it.
func (s *server) initWorkspace(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name        string  `json:"name"`
		AccentColor *string `json:"accent_color"`
	}
	if !body(w, r, &in) {
		return
	}
	members, err := s.withRole(r, "prosody:member")
	if err != nil {
		s.internal(w, err)
		return
	}
	if len(members) > 0 {
		(&fault{410, 0, "LIFECYCLE_ERROR", "WORKSPACE_ALREADY_INITIALIZED", "Workspace exists", "Log in as an administrator."}).write(w)
		return
	}
	if err := s.writeWorkspace(workspace{Name: in.Name, AccentColor: in.AccentColor}); err != nil {
		s.internal(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}
