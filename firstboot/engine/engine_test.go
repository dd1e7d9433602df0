package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve answers on a socket. The real engine is in the tests of package pod;
// here are answers that it would have to be ill to give.
func serve(t *testing.T, f http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: f}}
	s.Start()
	t.Cleanup(s.Close)
	return New(socket)
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		status   int
		body     string
		notFound bool
		conflict bool
		message  string
	}{
		{404, `{"message":"no such container: x"}`, true, false, "POST /containers/x/start: status 404: no such container: x"},
		{409, `{"message":"taken"}`, false, true, "status 409: taken"},
		{500, "<html>", false, false, "status 500: <html>"},
		{500, strings.Repeat("a", 100_000), false, false, strings.Repeat("a", 512)},
		{301, "", false, false, "status 301"},
	} {
		e := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		err := e.Start(t.Context(), "x")
		var is *Error
		if !errors.As(err, &is) || is.Status != c.status || errors.Is(err, ErrNotFound) != c.notFound || errors.Is(err, ErrConflict) != c.conflict {
			t.Errorf("%d: %v", c.status, err)
		} else if !strings.Contains(err.Error(), c.message) || len(err.Error()) > 700 {
			t.Errorf("%d: %.200s", c.status, err)
		}
	}
}

// 304: it runs already.
func TestNothingToDo(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	if err := e.Start(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestBadAnswers(t *testing.T) {
	for body, want := range map[string]string{
		"{": "reading the answer to GET /version: unexpected end",
		`{"Version":"` + strings.Repeat("a", maxBody) + `"}`: "reading the answer to GET /version: more than",
	} {
		e := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
		if _, err := e.Version(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v", body, err)
		}
	}
	hung := make(chan struct{})
	e := serve(t, func(http.ResponseWriter, *http.Request) { <-hung })
	defer close(hung)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Version(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := New("/nowhere").Version(t.Context()); err == nil || !strings.Contains(err.Error(), "calling the engine") {
		t.Errorf("%v", err)
	}
}

// A pull's failure comes after the status 200.
func TestPull(t *testing.T) {
	body := `{"status":"Pulling"}` + "\n"
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("fromImage") != "a/b:1@sha256:00" {
			t.Errorf("asked for %s", r.URL)
		}
		io.WriteString(w, body)
	})
	if err := e.Pull(t.Context(), "a/b:1@sha256:00"); err != nil {
		t.Error(err)
	}
	body += `{"error":"manifest unknown"}`
	if err := e.Pull(t.Context(), "a/b:1@sha256:00"); err == nil || err.Error() != "pulling a/b:1@sha256:00: manifest unknown" {
		t.Errorf("%v", err)
	}
}

// What is sent: paths, parameters and fields of the reference.
func TestRequests(t *testing.T) {
	var got string
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", string(b))
		io.WriteString(w, "{}")
	})
	ctx := t.Context()
	for want, call := range map[string]func() error{
		"POST /v1.43/containers/x/kill?signal=SIGHUP ":                         func() error { return e.Kill(ctx, "x", "SIGHUP") },
		"POST /v1.43/containers/x/restart?t=10 ":                               func() error { return e.Restart(ctx, "x", 10*time.Second) },
		"POST /v1.43/containers/x/stop?t=3 ":                                   func() error { return e.Stop(ctx, "x", 3*time.Second) },
		"DELETE /v1.43/containers/x?force=1 ":                                  func() error { return e.Remove(ctx, "x") },
		"GET /v1.43/volumes?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D ":    func() error { _, err := e.Volumes(ctx, "a=b"); return err },
		"GET /v1.43/volumes ":                                                  func() error { _, err := e.Volumes(ctx); return err },
		"GET /v1.43/images/docker.io/a/b:1@sha256:00/json ":                    func() error { _, err := e.Image(ctx, "docker.io/a/b:1@sha256:00"); return err },
		`POST /v1.43/volumes/create {"Name":"v","Labels":null}`:                func() error { return e.CreateVolume(ctx, Volume{Name: "v"}) },
		`POST /v1.43/networks/n/connect {"Container":"x","EndpointConfig":{}}`: func() error { return e.Connect(ctx, "n", "x", Endpoint{}) },
		"POST /v1.43/containers/x/unpause ":                                    func() error { return e.Unpause(ctx, "x") },
		"DELETE /v1.43/networks/n ":                                            func() error { return e.RemoveNetwork(ctx, "n") },
	} {
		if err := call(); err != nil || got != want {
			t.Errorf("got  %s\nwant %s (%v)", got, want, err)
		}
	}
	if _, err := e.Create(ctx, "n", Config{Image: "i"}); err != nil {
		t.Fatal(err)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(got[strings.Index(got, "{"):]), &sent); err != nil {
		t.Fatal(err)
	}
	// An empty list would replace the image's.
	for _, k := range []string{"Cmd", "Entrypoint", "Healthcheck", "User"} {
		if _, ok := sent[k]; ok {
			t.Errorf("%s is sent", k)
		}
	}
}

func TestUnframe(t *testing.T) {
	frame := func(stream byte, s string) string { return string([]byte{stream, 0, 0, 0, 0, 0, 0, byte(len(s))}) + s }
	for in, want := range map[string]string{
		"":                                      "",
		frame(1, "out\n") + frame(2, "error\n"): "out\nerror\n",
		frame(1, "cut off")[:10]:                "cu",
		"no frames at all":                      "no frames at all",
		"\x01\x00\x00\x00\xff\xff\xff\xffx":     "x",
	} {
		if got := unframe([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzUnframe(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(unframe(b)) > len(b) {
			t.Error("longer than what came")
		}
	})
}
