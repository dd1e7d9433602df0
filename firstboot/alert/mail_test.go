package alert

import (
	"io"
	"net"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

func message() Message {
	return Message{Domain: "example.org", State: "broken", At: t0, Matters: []Change{
		{Began, t0.Add(-time.Hour), Matter{Key: "pod", Title: "Prose Pod", What: "The Pod does not answer.", Why: "Because of “this”\r\nBcc: evil@example.com\n.\nMAIL.", Do: strings.Repeat("Look at it again and again. ", 10)}},
		{Over, t0.Add(-2 * time.Hour), Matter{Key: "disk", Title: "Disk", What: "It is as it should be again."}},
	}}
}

func (s *mailServer) to() Mail {
	return Mail{To: mailbox, Host: "localhost", Port: s.port, Username: username, Password: password, Encrypt: true}
}

func TestMailArrives(t *testing.T) {
	for _, way := range []string{sasl.Plain, sasl.Login} {
		s := startMail(t, func(_ *smtp.Server, s *mailServer) { s.ways = []string{way} })
		if err := s.to().Send(t.Context(), message()); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if len(s.mails) != 1 || s.way != way {
			t.Fatalf("%d mails arrived, by %s", len(s.mails), s.way)
		}
		got := s.mails[0]
		if !got.secret || got.login != username || got.from != username || got.to != mailbox {
			t.Errorf("it came as %+v", got)
		}
		// The second EHLO is the one within TLS.
		if s.hellos[len(s.hellos)-1] != "prose.example.org" {
			t.Errorf("the machine calls itself %q", s.hellos)
		}
		m, err := mail.ReadMessage(strings.NewReader(got.text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, got.text)
		}
		for name, want := range map[string]string{
			"From": username, "To": mailbox, "Subject": "example.org: Prose Pod: needs a look (and 1 more)",
			"Auto-Submitted": "auto-generated", "Bcc": "",
		} {
			if got := m.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if d, err := m.Header.Date(); err != nil || !d.Equal(t0) {
			t.Errorf("dated %v, %v", d, err)
		}
		if id := m.Header.Get("Message-ID"); !strings.HasSuffix(id, "@prose.example.org>") || len(id) < 30 {
			t.Errorf("Message-ID %q", id)
		}
		body, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Its state is: broken.", "The Pod does not answer.", "  Do: Look at it", "Disk: over", "prose-firstboot status"} {
			if !strings.Contains(string(body), want) {
				t.Errorf("no %q in\n%s", want, body)
			}
		}
		for _, line := range strings.Split(string(body), "\r\n") {
			if len(line) > 78 || strings.Trim(line, " ~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?@()-") != "" {
				t.Errorf("line %q", line)
			}
		}
	}
}

func TestMailFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		server func(*smtp.Server, *mailServer)
		change func(*Mail)
		want   string
	}{
		{"no STARTTLS", func(s *smtp.Server, _ *mailServer) { s.TLSConfig = nil }, func(m *Mail) {}, "no STARTTLS, and smtp.encrypt wants it"},
		{"a password never in the clear", func(s *smtp.Server, _ *mailServer) { s.TLSConfig, s.AllowInsecureAuth = nil, true },
			func(m *Mail) { m.Encrypt = false }, "a password is not sent without"},
		{"another's certificate", func(*smtp.Server, *mailServer) {}, func(m *Mail) { m.Host = "127.0.0.1" }, "beginning TLS"},
		{"another's certificate, without encrypt but with a password", func(*smtp.Server, *mailServer) {},
			func(m *Mail) { m.Host, m.Encrypt = "127.0.0.1", false }, "beginning TLS"},
		{"a wrong password", func(*smtp.Server, *mailServer) {}, func(m *Mail) { m.Password += "x" }, "logging in"},
		{"no login", func(*smtp.Server, *mailServer) {}, func(m *Mail) { m.Username, m.Password = "", "" }, "naming the sender"},
		{"no such mailbox", func(_ *smtp.Server, s *mailServer) { s.refuse = "unknown" }, func(m *Mail) {}, "550"},
		{"nobody there", func(*smtp.Server, *mailServer) {}, func(m *Mail) { m.Port = 1 }, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startMail(t, c.server)
			m := s.to()
			c.change(&m)
			err := m.Send(t.Context(), message())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			harmless(t, err)
			if len(s.mails) > 0 {
				t.Error("it was sent all the same")
			}
		})
	}
}

func TestMailWithoutEncrypt(t *testing.T) {
	open := func(srv *smtp.Server, s *mailServer) { s.ways = nil }
	// A relay in one's own network, with a certificate that nobody vouches for.
	s := startMail(t, open)
	m := Mail{To: mailbox, Host: "127.0.0.1", Port: s.port}
	if err := m.Send(t.Context(), message()); err != nil || len(s.mails) != 1 || !s.mails[0].secret || s.mails[0].from != "prose@example.org" {
		t.Errorf("%v: %+v", err, s.mails)
	}
	// And one without any.
	s = startMail(t, func(srv *smtp.Server, s *mailServer) { srv.TLSConfig = nil; open(srv, s) })
	m.Port = s.port
	if err := m.Send(t.Context(), message()); err != nil || len(s.mails) != 1 {
		t.Errorf("%v: %+v", err, s.mails)
	}
}

// A server that says nothing holds up nobody for ever.
func TestMailEndsWithTheContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := contextThatEnds(t, l)
	defer cancel()
	m := Mail{To: mailbox, Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Username: username, Password: password}
	err = m.Send(ctx, message())
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
	harmless(t, err)
}

func TestFrom(t *testing.T) {
	for name, want := range map[string]string{
		"": "prose@example.org", "apikey": "prose@example.org", "a@b.example": "a@b.example", "a@localhost": "prose@example.org",
		"a b@c.example": "prose@example.org", "a@b@c.example": "prose@example.org", "<a@b.example>": "prose@example.org", "@b.example": "prose@example.org",
	} {
		if got := (Mail{Username: name}).from("example.org"); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
