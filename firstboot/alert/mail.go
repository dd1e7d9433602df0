package alert

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/redact"
)

// mailLimit is for a whole delivery: servers that fear spam answer late.
const mailLimit = 45 * time.Second

// Mail is a mailbox, and the server that mail goes out through (RFC 6409).
type Mail struct {
	To       string `json:"to,omitempty"`
	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"`
	Username string `json:"username,omitempty"` // empty: without a login
	Password string `json:"password,omitempty"`
	Encrypt  bool   `json:"encrypt,omitempty"` // STARTTLS or nothing
}

// Send delivers a message to the server. STARTTLS is used wherever there is
// one; a password is never sent without it, whatever Encrypt says.
func (m Mail) Send(ctx context.Context, msg Message) error {
	ctx, cancel := context.WithTimeoutCause(ctx, mailLimit, fmt.Errorf("it has not taken the mail after %v", mailLimit))
	defer cancel()
	err := m.send(ctx, msg)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	// Servers repeat what they were told.
	secrets := []string{m.Password, m.To, m.Username, m.from(msg.Domain), "\x00" + m.Username + "\x00" + m.Password}
	return errors.New(redact.New(secrets...).Known(strings.ReplaceAll(err.Error(), "\n", " ")))
}

func (m Mail) send(ctx context.Context, msg Message) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(m.Port)))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until)
	}
	c, err := smtp.NewClient(conn, m.Host)
	if err != nil {
		conn.Close()
		return fmt.Errorf("greeting: %w", err)
	}
	defer c.Close()
	if err := c.Hello("prose." + msg.Domain); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if ok, _ := c.Extension("STARTTLS"); ok {
		// Where anything would go in the clear, whom we talk to makes no difference.
		config := &tls.Config{ServerName: m.Host, InsecureSkipVerify: !m.Encrypt && m.Password == ""}
		if err := c.StartTLS(config); err != nil {
			return fmt.Errorf("beginning TLS: %w", err)
		}
	} else if m.Encrypt {
		return errors.New("the server offers no STARTTLS, and smtp.encrypt wants it")
	}
	if m.Username != "" {
		if err := c.Auth(&login{username: m.Username, password: m.Password}); err != nil {
			return fmt.Errorf("logging in: %w", err)
		}
	}
	if err := c.Mail(m.from(msg.Domain)); err != nil {
		return fmt.Errorf("naming the sender: %w", err)
	}
	if err := c.Rcpt(m.To); err != nil {
		return fmt.Errorf("naming the recipient: %w", err)
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if _, err := w.Write(m.compose(msg)); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	_ = c.Quit() // it has taken the mail
	return nil
}

// login is what most servers speak: PLAIN (RFC 4616), or the older LOGIN.
type login struct {
	username, password string
	asked              int
}

func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, errors.New("the server offers no STARTTLS, and a password is not sent without")
	}
	for _, way := range server.Auth {
		if strings.EqualFold(way, "PLAIN") {
			return "PLAIN", []byte("\x00" + l.username + "\x00" + l.password), nil
		}
	}
	for _, way := range server.Auth {
		if strings.EqualFold(way, "LOGIN") {
			return "LOGIN", nil, nil
		}
	}
	return "", nil, errors.New("the server offers neither PLAIN nor LOGIN")
}

func (l *login) Next(_ []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.username), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, errors.New("the server asks for more than a name and a password")
}

// from is the sender: the login when it is an address, for servers let people
// send as themselves.
func (m Mail) from(domain string) string {
	local, host, ok := strings.Cut(m.Username, "@")
	if ok && local != "" && strings.Contains(host, ".") && strings.Trim(strings.ToLower(m.Username), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~.@") == "" && !strings.Contains(host, "@") {
		return m.Username
	}
	return "prose@" + domain
}

// compose is the mail (RFC 5322), in ASCII and with short lines.
func (m Mail) compose(msg Message) []byte {
	var b strings.Builder
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, ascii(value)) }
	id := make([]byte, 15)
	_, _ = rand.Read(id) // it never fails
	header("From", m.from(msg.Domain))
	header("To", m.To)
	header("Subject", subject(msg))
	header("Date", msg.At.UTC().Format(time.RFC1123Z))
	header("Message-ID", "<"+base64.RawURLEncoding.EncodeToString(id)+"@prose."+msg.Domain+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834: no answers of absent people
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=us-ascii")
	b.WriteString("\r\n")
	for _, line := range strings.Split(letter(msg), "\n") {
		b.WriteString(ascii(line) + "\r\n")
	}
	return []byte(b.String())
}

func subject(msg Message) string {
	if len(msg.Matters) == 0 {
		return msg.Domain
	}
	first := msg.Matters[0]
	text := map[Turn]string{Began: "needs a look", Still: "still needs a look", Over: "is as it should be again"}[first.Turn]
	s := msg.Domain + ": " + first.Title + ": " + text
	if n := len(msg.Matters) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// letter is the text of the mail.
func letter(msg Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the machine of %s. Its state is: %s.\n", msg.Domain, msg.State)
	for _, c := range msg.Matters {
		since := c.Since.UTC().Format("2 January 2006, 15:04") + " UTC"
		switch c.Turn {
		case Over:
			fmt.Fprintf(&b, "\n%s: over\n", c.Title)
			wrap(&b, c.What)
			continue
		case Still:
			fmt.Fprintf(&b, "\n%s: still so, since %s\n", c.Title, since)
		default:
			fmt.Fprintf(&b, "\n%s: since %s\n", c.Title, since)
		}
		wrap(&b, c.What)
		if c.Why != "" {
			wrap(&b, "Why: "+c.Why)
		}
		if c.Do != "" {
			wrap(&b, "Do: "+c.Do)
		}
	}
	b.WriteString("\nThe whole list: log in over SSH and run\n\n    prose-firstboot status\n\n")
	wrap(&b, "You get a mail when something begins, when it is over, and every week in between. The address is the setting alerts.mail.")
	return strings.TrimSuffix(b.String(), "\n")
}

// wrap writes text in lines of two spaces and at most 72 columns, where words
// allow that.
func wrap(b *strings.Builder, text string) {
	words := bufio.NewScanner(strings.NewReader(text))
	words.Buffer(nil, 1<<20)
	words.Split(bufio.ScanWords)
	column := 0
	for words.Scan() {
		w := words.Text()
		w = w[:min(len(w), 900)] // RFC 5322 section 2.1.1
		switch {
		case column == 0:
			b.WriteString("  " + w)
			column = 2 + len(w)
		case column+1+len(w) > 72:
			b.WriteString("\n  " + w)
			column = 2 + len(w)
		default:
			b.WriteString(" " + w)
			column += 1 + len(w)
		}
	}
	b.WriteString("\n")
}

// ascii leaves what every server takes, and nothing that ends a line.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
