// Package dns asks resolvers for addresses, texts, services and CAA records (RFC
// 1035, 2782, 6891, 8659). It is not the system's resolver: it tells "no such name", "no such
// record" and "the server failed" apart, and sees every address of a name.
package dns

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Types of records that Lookup can ask for.
const (
	A    = dnsmessage.TypeA
	AAAA = dnsmessage.TypeAAAA
	TXT  = dnsmessage.TypeTXT
	SRV  = dnsmessage.TypeSRV   // RFC 2782
	CAA  = dnsmessage.Type(257) // RFC 8659 section 4.1
)

// AddressTypes are the types of records that hold addresses.
var AddressTypes = []dnsmessage.Type{A, AAAA}

const (
	maxAlias   = 8    // CNAMEs followed in one lookup
	maxPayload = 1232 // bytes of an answer over UDP: what passes any path unfragmented
	patience   = 4 * time.Second
)

// Property is one CAA record.
type Property struct {
	Critical   bool
	Tag, Value string
}

// Service is one SRV record.
type Service struct {
	Priority, Weight, Port uint16
	Target                 string // without the last dot
}

// Answer is what one name holds of one type. Empty and without error, the name
// holds none.
type Answer struct {
	Exists     bool   // false: there is no such name (NXDOMAIN)
	Alias      string // where a chain of CNAMEs ended, without the last dot; "" if there was none
	Addresses  []netip.Addr
	Properties []Property
	Services   []Service
	Texts      []string // of TXT: the strings of one record, joined
}

// empty says whether no record was there.
func (a Answer) empty() bool {
	return len(a.Addresses)+len(a.Properties)+len(a.Services)+len(a.Texts) == 0
}

// Failure is an answer that says neither what is there nor that nothing is.
type Failure struct {
	Name string
	Type dnsmessage.Type
	Code dnsmessage.RCode
}

func (f *Failure) Error() string {
	code := strings.TrimPrefix(f.Code.String(), "RCode")
	if f.Code == dnsmessage.RCodeServerFailure {
		code = "SERVFAIL"
	}
	return fmt.Sprintf("the DNS server answers %s for %s %s", code, f.Name, typeName(f.Type))
}

func typeName(t dnsmessage.Type) string {
	if t == CAA {
		return "CAA"
	}
	return strings.TrimPrefix(t.String(), "Type")
}

// Client asks its servers in turn until one answers.
type Client struct {
	Servers []netip.AddrPort
}

// System reads the name servers of a resolv.conf (resolv.conf(5)).
func System(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading name servers: %w", err)
	}
	defer f.Close()
	var servers []netip.AddrPort
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("reading name servers: %s names none", path)
	}
	return servers, lines.Err()
}

// Lookup asks for the records of one type. CNAMEs are followed. It returns a
// *Failure when every server answered but none with a yes or no.
func (c Client) Lookup(ctx context.Context, name string, t dnsmessage.Type) (Answer, error) {
	var alias string
	asked := name
	for range maxAlias {
		answer, err := c.ask(ctx, asked, t)
		if err != nil {
			return Answer{}, err
		}
		if answer.Alias != "" {
			alias = answer.Alias
		}
		answer.Alias, asked = alias, answer.Alias
		// A server that does not follow CNAMEs leaves that to us.
		if asked == "" || !answer.Exists || !answer.empty() {
			return answer, nil
		}
	}
	return Answer{}, fmt.Errorf("looking up %s: more than %d CNAMEs", name, maxAlias)
}

func (c Client) ask(ctx context.Context, name string, t dnsmessage.Type) (Answer, error) {
	var last error = errors.New("no name server is known")
	for _, server := range c.Servers {
		answer, err := exchange(ctx, server, name, t)
		if err == nil {
			return answer, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return Answer{}, fmt.Errorf("looking up %s: %w", name, last)
}

func exchange(ctx context.Context, server netip.AddrPort, name string, t dnsmessage.Type) (Answer, error) {
	query, id, err := question(name, t)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, network := range []string{"udp", "tcp"} {
		var truncated bool
		var answer Answer
		answer, truncated, err = over(ctx, network, server, query, id, name, t)
		if err != nil {
			return Answer{}, err
		}
		if !truncated {
			return answer, nil
		}
	}
	return Answer{}, fmt.Errorf("%v sends a truncated answer over TCP", server)
}

func over(ctx context.Context, network string, server netip.AddrPort, query []byte, id uint16, name string, t dnsmessage.Type) (Answer, bool, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return Answer{}, false, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return Answer{}, false, err
	}
	if network == "tcp" {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return Answer{}, false, err
		}
		message := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return Answer{}, false, err
		}
		return parse(message, id, name, t)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return Answer{}, false, err
		}
		answer, truncated, err := parse(buf[:n], id, name, t)
		// A datagram that answers something else may be forged: the real one
		// may still come.
		if errors.Is(err, errOther) {
			continue
		}
		return answer, truncated, err
	}
}

// question returns a query with recursion wanted, and its id.
func question(name string, t dnsmessage.Type) ([]byte, uint16, error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, 0, fmt.Errorf("asking for %q: %w", name, err)
	}
	var random [2]byte
	rand.Read(random[:])
	id := binary.BigEndian.Uint16(random[:])
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.EnableCompression()
	var edns dnsmessage.ResourceHeader
	query, err := func() ([]byte, error) {
		if err := b.StartQuestions(); err != nil {
			return nil, err
		}
		if err := b.Question(dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}); err != nil {
			return nil, err
		}
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		if err := edns.SetEDNS0(maxPayload, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(edns, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
		return b.Finish()
	}()
	if err != nil {
		return nil, 0, fmt.Errorf("asking for %q: %w", name, err)
	}
	return query, id, nil
}

var errOther = errors.New("the answer is to another question")

// parse reads one message. Whether it was truncated comes with an empty answer.
func parse(message []byte, id uint16, name string, t dnsmessage.Type) (Answer, bool, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil {
		return Answer{}, false, fmt.Errorf("reading a DNS answer: %w", errors.Join(errOther, err))
	}
	q, err := p.AllQuestions()
	if err != nil || !h.Response || h.ID != id || len(q) != 1 || q[0].Type != t || q[0].Class != dnsmessage.ClassINET || !same(q[0].Name.String(), name) {
		return Answer{}, false, errOther
	}
	if h.Truncated {
		return Answer{}, true, nil
	}
	var answer Answer
	switch h.RCode {
	case dnsmessage.RCodeSuccess:
		answer.Exists = true
	case dnsmessage.RCodeNameError:
	default:
		return Answer{}, false, &Failure{name, t, h.RCode}
	}
	alias := map[string]string{}
	type record struct {
		owner    string
		address  netip.Addr
		property Property
		service  Service
		text     string
	}
	var records []record
	for {
		rh, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return Answer{}, false, fmt.Errorf("reading a DNS answer: %w", err)
		}
		owner := fold(rh.Name.String())
		switch {
		case rh.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case rh.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				alias[owner] = fold(r.CNAME.String())
			}
		case rh.Type == A && t == A:
			var r dnsmessage.AResource
			if r, err = p.AResource(); err == nil {
				records = append(records, record{owner: owner, address: netip.AddrFrom4(r.A)})
			}
		case rh.Type == AAAA && t == AAAA:
			var r dnsmessage.AAAAResource
			if r, err = p.AAAAResource(); err == nil {
				records = append(records, record{owner: owner, address: netip.AddrFrom16(r.AAAA)})
			}
		case rh.Type == SRV && t == SRV:
			var r dnsmessage.SRVResource
			if r, err = p.SRVResource(); err == nil {
				records = append(records, record{owner: owner, service: Service{r.Priority, r.Weight, r.Port, fold(r.Target.String())}})
			}
		case rh.Type == TXT && t == TXT:
			var r dnsmessage.TXTResource
			if r, err = p.TXTResource(); err == nil {
				records = append(records, record{owner: owner, text: strings.Join(r.TXT, "")})
			}
		case rh.Type == CAA && t == CAA:
			var r dnsmessage.UnknownResource
			if r, err = p.UnknownResource(); err == nil {
				var prop Property
				if prop, err = property(r.Data); err == nil {
					records = append(records, record{owner: owner, property: prop})
				}
			}
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return Answer{}, false, fmt.Errorf("reading a DNS answer: %w", err)
		}
	}
	// Only records that the chain from the asked name leads to count.
	at := fold(name)
	for range maxAlias {
		next, ok := alias[at]
		if !ok {
			break
		}
		at, answer.Alias = next, next
	}
	for _, r := range records {
		if r.owner != at {
			continue
		}
		switch {
		case t == CAA:
			answer.Properties = append(answer.Properties, r.property)
		case t == TXT:
			answer.Texts = append(answer.Texts, r.text)
		case t == SRV:
			answer.Services = append(answer.Services, r.service)
		case !slices.Contains(answer.Addresses, r.address):
			answer.Addresses = append(answer.Addresses, r.address)
		}
	}
	return answer, false, nil
}

// property reads the data of a CAA record (RFC 8659 section 4.1).
func property(data []byte) (Property, error) {
	if len(data) < 2 || data[1] == 0 || len(data) < 2+int(data[1]) {
		return Property{}, errors.New("a CAA record is cut short")
	}
	n := 2 + int(data[1])
	return Property{data[0]&0x80 != 0, strings.ToLower(string(data[2:n])), string(data[n:])}, nil
}

func fold(name string) string      { return strings.ToLower(strings.TrimSuffix(name, ".")) }
func same(a string, b string) bool { return fold(a) == fold(b) }
