package pod

import (
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// resolve answers for the names of the containers that run, as the engine's own
// resolver does, until the pod is closed.
func (p *pod) resolve() error {
	conn, err := net.ListenPacket("udp4", p.address(1)+":53")
	if err != nil {
		return err
	}
	p.dns = conn
	go func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if answer, err := p.answer(buf[:n]); err == nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return nil
}

func (p *pod) answer(query []byte) ([]byte, error) {
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil {
		return nil, err
	}
	a := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: q.RecursionDesired, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError},
		Questions: q.Questions,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, question := range q.Questions {
		for _, c := range p.containers {
			if c.cmd == nil || !strings.EqualFold(question.Name.String(), c.alias+".") {
				continue
			}
			a.RCode = dnsmessage.RCodeSuccess
			if question.Type == dnsmessage.TypeA {
				a.Answers = append(a.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 600},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(p.address(c.last)).As4()},
				})
			}
		}
	}
	return a.Pack()
}
