package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// contextThatEnds ends once somebody has connected to l.
func contextThatEnds(t *testing.T, l net.Listener) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
		}
		cancel(errors.New("enough"))
		<-ctx.Done()
	}()
	return ctx, func() { cancel(nil) }
}

// startHook is a real https server.
func startHook(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "https://localhost:" + port
}

func TestWebhookArrives(t *testing.T) {
	var got Message
	var seen string
	at := startHook(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen = fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, r.Header.Get("Content-Type"))
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%v: %s", err, b)
		}
		// What it answers is of no interest, however much it is.
		w.WriteHeader(http.StatusAccepted)
		for range 1000 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return
			}
		}
	})
	if err := (Webhook{at + "/hooks/" + token + "?key=" + token}).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if seen != "POST /hooks/"+token+"?key="+token+" application/json" {
		t.Error(seen)
	}
	if got.Domain != "example.org" || got.State != "broken" || !got.At.Equal(t0) || len(got.Matters) != 2 || got.Matters[0].Key != "pod" || got.Matters[0].Turn != Began || got.Matters[1].Turn != Over {
		t.Errorf("%+v", got)
	}
}

func TestWebhookFails(t *testing.T) {
	redirected := false
	other := startHook(t, func(http.ResponseWriter, *http.Request) { redirected = true })
	at := startHook(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/redirect"):
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, "/cut"):
			panic(http.ErrAbortHandler)
		default:
			http.Error(w, r.RequestURI+" "+token, http.StatusForbidden)
		}
	})
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent in the clear") }))
	defer plain.Close()
	for _, c := range []struct{ name, url, want string }{
		{"refused", at + "/" + token, "status 403"},
		{"a redirect", at + "/redirect/" + token, "status 307"},
		{"cut off", at + "/cut/" + token, "EOF"},
		{"no https", plain.URL + "/" + token, "https://"},
		{"http spoken on the port of https", strings.Replace(plain.URL, "http:", "https:", 1) + "/" + token, "HTTP response to HTTPS client"},
		{"another's certificate", strings.Replace(at, "localhost", "127.0.0.1", 1) + "/" + token, "certificate"},
		{"a name that is none", "https://" + strings.ToLower(token) + ".invalid/x", "no such host"},
		{"nobody there", "https://localhost:1/" + token, "connection refused"},
		{"no address", "https://a b/" + token, "https://"},
	} {
		err := Webhook{c.url}.Send(t.Context(), message())
		if err == nil || !strings.Contains(err.Error(), c.want) && c.name != "a name that is none" {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(token)) {
			t.Errorf("%s gives the token away: %v", c.name, err)
		}
		harmless(t, err)
	}
	if redirected {
		t.Error("a redirect was followed")
	}
}

func TestWebhookEndsWithTheContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := contextThatEnds(t, l)
	defer cancel()
	err = Webhook{"https://" + l.Addr().String() + "/" + token}.Send(ctx, message())
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
	harmless(t, err)
}

// Whoever prints it sees nothing.
func TestToIsHidden(t *testing.T) {
	to := To{Mail: Mail{Password: password, To: mailbox}, Webhook: Webhook{"https://x.example/" + token}}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{to, &to, to.Mail, to.Webhook, Memory{To: to}, &Memory{To: to}} {
			if s := fmt.Sprintf(f, v); strings.Contains(s, password) || strings.Contains(s, token) {
				t.Errorf("%s of %T: %s", f, v, s)
			}
		}
	}
}
