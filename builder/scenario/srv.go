package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// srvRecords answers questions for SRV records (RFC 2782), which
// pebble-challtestsrv does not implement, and hands all others on to it.
type srvRecords struct {
	mu      sync.Mutex
	records map[string][]dnsmessage.SRVResource // by lower-case name with the last dot
}

// parseService reads a record's data: priority, weight, port and target.
func parseService(data string) (dnsmessage.SRVResource, error) {
	var r dnsmessage.SRVResource
	words := strings.Fields(data)
	if len(words) != 4 {
		return r, fmt.Errorf("%q is not PRIORITY WEIGHT PORT TARGET", data)
	}
	for i, to := range []*uint16{&r.Priority, &r.Weight, &r.Port} {
		n, err := strconv.ParseUint(words[i], 10, 16)
		if err != nil {
			return r, fmt.Errorf("%q is not PRIORITY WEIGHT PORT TARGET", data)
		}
		*to = uint16(n)
	}
	var err error
	r.Target, err = dnsmessage.NewName(strings.TrimSuffix(words[3], ".") + ".")
	return r, err
}

func (s *srvRecords) set(name string, data []string) error {
	var list []dnsmessage.SRVResource
	for _, d := range data {
		r, err := parseService(d)
		if err != nil {
			return err
		}
		list = append(list, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = map[string][]dnsmessage.SRVResource{}
	}
	s.records[strings.ToLower(name)+"."] = list
	return nil
}

// answer is the answer to a question for SRV records, nil to any other.
func (s *srvRecords) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 || m.Questions[0].Type != dnsmessage.TypeSRV {
		return nil
	}
	q := m.Questions[0]
	s.mu.Lock()
	records := s.records[strings.ToLower(q.Name.String())]
	s.mu.Unlock()
	m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true},
		Questions: m.Questions}
	for _, r := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &r})
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

const questionWithin = 5 * time.Second

// serve answers at an address, over UDP and TCP, until ctx ends; behind is who
// is asked for everything else.
func (s *srvRecords) serve(ctx context.Context, address, behind string) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("starting the name server: %w", err)
	}
	streams, err := net.Listen("tcp", address)
	if err != nil {
		packets.Close()
		return fmt.Errorf("starting the name server: %w", err)
	}
	context.AfterFunc(ctx, func() { packets.Close(); streams.Close() })
	go func() {
		for {
			buf := make([]byte, 64<<10)
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			go func() {
				if b := s.ask("udp", behind, buf[:n]); b != nil {
					_, _ = packets.WriteTo(b, from)
				}
			}()
		}
	}()
	go func() {
		for {
			conn, err := streams.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(questionWithin))
				for {
					q, err := readFrame(conn)
					if err != nil {
						return
					}
					b := s.ask("tcp", behind, q)
					if b == nil || writeFrame(conn, b) != nil {
						return
					}
				}
			}()
		}
	}()
	return nil
}

// ask gives an answer of ours, or fetches one; nil when there is none.
func (s *srvRecords) ask(network, behind string, question []byte) []byte {
	if b := s.answer(question); b != nil {
		return b
	}
	conn, err := net.DialTimeout(network, behind, questionWithin)
	if err != nil {
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(questionWithin))
	if network == "tcp" {
		if writeFrame(conn, question) != nil {
			return nil
		}
		b, err := readFrame(conn)
		if err != nil {
			return nil
		}
		return b
	}
	if _, err := conn.Write(question); err != nil {
		return nil
	}
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// Over TCP each message has its length before it (RFC 1035 section 4.2.2).

func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
