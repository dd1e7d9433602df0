package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

const servedLimit = 3 * time.Second

// ServedHTTPS returns the serial of the certificate that a server shows for a
// name. It trusts anything: it asks which one is there, not whose it is.
func ServedHTTPS(ctx context.Context, at netip.AddrPort, host string) Served {
	return served(ctx, at, host, func(net.Conn) error { return nil })
}

// ServedXMPP does the same with STARTTLS (RFC 6120 section 5), in a client's
// stream or a server's.
func ServedXMPP(ctx context.Context, at netip.AddrPort, host string, kind XMPP) Served {
	return served(ctx, at, host, func(conn net.Conn) error {
		return startTLS(conn, host, kind)
	})
}

func served(ctx context.Context, at netip.AddrPort, host string, before func(net.Conn) error) Served {
	ctx, cancel := context.WithTimeout(ctx, servedLimit)
	defer cancel()
	down := false
	leaf, err := func() (*x509.Certificate, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", at.String())
		if err != nil {
			down = true
			return nil, err
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		conn.SetDeadline(deadline)
		if err := before(conn); err != nil {
			return nil, err
		}
		c := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return c.ConnectionState().PeerCertificates[0], nil
	}()
	if err != nil {
		return Served{Down: down, Error: fmt.Sprintf("asking %v for the certificate of %s: %v", at, host, err)}
	}
	return Served{Serial: serial(leaf), print: fingerprint(leaf)}
}

// startTLS brings an XMPP stream to where the handshake begins. It looks for
// the two words that matter instead of parsing XML: the worst that a server
// could do is to be taken for one that shows no certificate.
func startTLS(conn net.Conn, host string, kind XMPP) error {
	namespace := "jabber:client"
	from := ""
	if kind == Server {
		// A server says who calls; our own name is as good as any.
		namespace, from = "jabber:server", " from='"+host+"'"
	}
	if _, err := fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream to='%s'%s version='1.0' xmlns='%s' xmlns:stream='http://etherx.jabber.org/streams'>", host, from, namespace); err != nil {
		return err
	}
	if err := await(conn, "</stream:features>", "<starttls"); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	return await(conn, ">", "<proceed")
}

// await reads until a mark, byte by byte so that nothing of the handshake is
// taken, and wants to have seen a word before it.
func await(conn net.Conn, mark, word string) error {
	var seen []byte
	var one [1]byte
	for len(seen) < 16<<10 {
		if _, err := conn.Read(one[:]); err != nil {
			return fmt.Errorf("waiting for %s: %w", word, err)
		}
		seen = append(seen, one[0])
		if bytes.HasSuffix(seen, []byte(mark)) {
			if !bytes.Contains(seen, []byte(word)) {
				return fmt.Errorf("the server does not offer %s>", word)
			}
			return nil
		}
	}
	return errors.New("the server talks too much")
}
