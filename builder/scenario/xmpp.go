package scenario

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/upload"
	xmppsocket "mellium.im/xmpp/websocket"
)

// xmppCommands use the chat as its people do.
var xmppCommands = []Command{
	{Name: "starttls", Args: "NAME", least: 1, most: 1, do: doStartTLS,
		Doc: "Port 5222 offers STARTTLS for a name, with a certificate for it from the authority."},
	{Name: "login", Args: "NAME PASSWORD", least: 2, most: 2, do: doLogin,
		Doc: "Logs in over XMPP with STARTTLS. Later steps know the password."},
	{Name: "message", Args: "FROM TO TEXT", least: 3, most: 3, do: doMessage,
		Doc: "One account sends another a message, and it arrives."},
	{Name: "upload", Args: "NAME", least: 1, most: 1, do: doUpload,
		Doc: "An account asks over XMPP where to upload, sends a file there through NGINX and fetches it again."},
	{Name: "websocket", Args: "NAME", least: 1, most: 1, do: doWebsocket,
		Doc: "Logs in as the web app does, over wss://prose.{domain}/websocket, and sends itself a message."},
}

const streamHead = "<?xml version='1.0'?><stream:stream to='%s' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"

// startTLS negotiates TLS on port 5222, RFC 6120 section 5, and returns what
// the server shows.
func (o *outside) startTLS(ctx context.Context, name string, config *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	conn, err := o.dial(ctx, "tcp", name+":5222")
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := fmt.Fprintf(conn, streamHead, name); err != nil {
		return tls.ConnectionState{}, err
	}
	for _, step := range []struct{ want, send string }{
		{"</stream:features>", "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}, {"<proceed", ""},
	} {
		var seen bytes.Buffer
		for buf := make([]byte, 4096); !strings.Contains(seen.String(), step.want); {
			n, err := conn.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				return tls.ConnectionState{}, fmt.Errorf("waiting for %s after %q: %w", step.want, clip(seen.String()), err)
			}
		}
		if step.send != "" && !strings.Contains(seen.String(), "xmpp-tls") {
			return tls.ConnectionState{}, errors.New("port 5222 offers no STARTTLS")
		}
		if _, err := io.WriteString(conn, step.send); err != nil {
			return tls.ConnectionState{}, err
		}
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return t.ConnectionState(), nil
}

func (o *outside) trust(name string) *tls.Config {
	return &tls.Config{RootCAs: o.roots, ServerName: name, MinVersion: tls.VersionTLS12}
}

func doStartTLS(ctx context.Context, r *run, args []string) error {
	_, err := r.outside.startTLS(ctx, args[0], r.outside.trust(args[0]))
	return err
}

// password is what an earlier step has used for an account.
func (r *run) password(name string) (string, error) {
	p, ok := r.saved["password."+name]
	if !ok {
		return "", fmt.Errorf("no step before has the password of %s", name)
	}
	return p, nil
}

// session logs an account in.
func (r *run) session(ctx context.Context, name string) (*xmpp.Session, error) {
	password, err := r.password(name)
	if err != nil {
		return nil, err
	}
	address, err := jid.New(name, r.Domain, "")
	if err != nil {
		return nil, err
	}
	conn, err := r.outside.dial(ctx, "tcp", r.Domain+":5222")
	if err != nil {
		return nil, err
	}
	s, err := xmpp.NewClientSession(ctx, address, conn,
		xmpp.StartTLS(r.outside.trust(r.Domain)), xmpp.SASL("", password, sasl.ScramSha1), xmpp.BindResource())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("logging in as %s: %w", address, err)
	}
	return s, nil
}

func doLogin(ctx context.Context, r *run, args []string) error {
	r.saved["password."+args[0]] = args[1]
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	s, err := r.session(ctx, args[0])
	if err != nil {
		return err
	}
	return s.Conn().Close()
}

// chat is a message with a body, RFC 6121 section 5.
type chat struct {
	stanza.Message
	Body string `xml:"body"`
}

// receive serves a session and hands over who sent what.
func receive(s *xmpp.Session) <-chan string {
	bodies := make(chan string, 10)
	go s.Serve(xmpp.HandlerFunc(func(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
		if start.Name.Local != "message" {
			return nil
		}
		var m chat
		if err := xml.NewTokenDecoder(xmlstream.MultiReader(xmlstream.Token(*start), t)).Decode(&m); err != nil {
			return err
		}
		if m.Body != "" {
			select {
			case bodies <- m.From.Bare().String() + ": " + m.Body:
			default:
			}
		}
		return nil
	}))
	return bodies
}

func arrives(ctx context.Context, bodies <-chan string, want string) error {
	for {
		select {
		case got := <-bodies:
			if got == want {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for the message: %w", context.Cause(ctx))
		}
	}
}

func doMessage(ctx context.Context, r *run, args []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*attempt, fmt.Errorf("%s are over", 2*attempt))
	defer cancel()
	from, err := r.session(ctx, args[0])
	if err != nil {
		return err
	}
	defer from.Conn().Close()
	to, err := r.session(ctx, args[1])
	if err != nil {
		return err
	}
	defer to.Conn().Close()
	bodies := receive(to)
	receive(from)
	if err := to.Send(ctx, stanza.Presence{Type: stanza.AvailablePresence}.Wrap(nil)); err != nil {
		return err
	}
	if err := from.Encode(ctx, chat{stanza.Message{To: to.LocalAddr(), Type: stanza.ChatMessage}, args[2]}); err != nil {
		return err
	}
	return arrives(ctx, bodies, args[0]+"@"+r.Domain+": "+args[2])
}

func doUpload(ctx context.Context, r *run, args []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*attempt, fmt.Errorf("%s are over", 2*attempt))
	defer cancel()
	s, err := r.session(ctx, args[0])
	if err != nil {
		return err
	}
	defer s.Conn().Close()
	receive(s)
	content := bytes.Repeat([]byte("scenario "), 20_000) // more than one buffer of anybody
	// The component's name is the same in every Pod.
	slot, err := upload.GetSlot(ctx, upload.File{Name: "a.txt", Size: len(content), Type: "text/plain"}, jid.MustParse("upload.prose.local"), s)
	if err != nil {
		return fmt.Errorf("asking where to upload: %w", err)
	}
	if want := "https://prose." + r.Domain + "/upload/"; !strings.HasPrefix(slot.PutURL.String(), want) || !strings.HasPrefix(slot.GetURL.String(), want) {
		return fmt.Errorf("the server says to upload to %s and to fetch from %s", slot.PutURL, slot.GetURL)
	}
	put, err := http.NewRequestWithContext(ctx, http.MethodPut, slot.PutURL.String(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	if slot.Header != nil {
		put.Header = slot.Header.Clone()
	}
	put.Header.Set("Content-Type", "text/plain")
	res, err := r.outside.web.Do(put)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("uploading to %s: status %d", slot.PutURL, res.StatusCode)
	}
	res, body, err := r.outside.request(ctx, request{method: http.MethodGet, url: slot.GetURL.String()})
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || body != string(content) {
		return fmt.Errorf("fetching %s: status %d, %d bytes of %d", slot.GetURL, res.StatusCode, len(body), len(content))
	}
	return nil
}

func doWebsocket(ctx context.Context, r *run, args []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*attempt, fmt.Errorf("%s are over", 2*attempt))
	defer cancel()
	password, err := r.password(args[0])
	if err != nil {
		return err
	}
	address, err := jid.New(args[0], r.Domain, "")
	if err != nil {
		return err
	}
	host := "prose." + r.Domain
	raw, err := r.outside.dial(ctx, "tcp", net.JoinHostPort(host, "443"))
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(2 * attempt)); err != nil {
		return err
	}
	conn := tls.Client(raw, r.outside.trust(host))
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	config, err := websocket.NewConfig("wss://"+host+"/websocket", "https://"+host)
	if err != nil {
		return err
	}
	config.Protocol = []string{"xmpp"} // RFC 7395 section 3.1
	socket, err := websocket.NewClient(config, conn)
	if err != nil {
		return fmt.Errorf("opening the websocket: %w", err)
	}
	features := []xmpp.StreamFeature{xmpp.SASL("", password, sasl.ScramSha1), xmpp.BindResource()}
	// mellium's own NewClient takes a connection for secure by the scheme of the
	// origin, which is https and not wss in a browser.
	s, err := xmpp.NewSession(ctx, address.Domain(), address, socket, xmpp.Secure,
		xmppsocket.Negotiator(func(*xmpp.Session, *xmpp.StreamConfig) xmpp.StreamConfig {
			return xmpp.StreamConfig{Features: features}
		}))
	if err != nil {
		return fmt.Errorf("logging in over the websocket: %w", err)
	}
	bodies := receive(s)
	if err := s.Encode(ctx, chat{stanza.Message{To: s.LocalAddr(), Type: stanza.ChatMessage}, "over the web"}); err != nil {
		return err
	}
	return arrives(ctx, bodies, address.String()+": over the web")
}
