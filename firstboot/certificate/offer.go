package certificate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// An offer is what an authority offers to prove names by. It shows that with
// an order only, so what one order has shown is remembered for others.
type offer struct {
	At      time.Time `json:"at"`
	Types   []string  `json:"types"`             // of challenges
	Issuers []string  `json:"issuers,omitempty"` // names by which TXT records may call it (draft-ietf-acme-dns-persist section 4.1)
}

// offerFresh is how long an authority is taken at its word.
const offerFresh = 7 * day

// lacks says that a kind of challenge is known not to be offered.
func (o offer) lacks(kind string, now time.Time) bool {
	return len(o.Types) > 0 && now.Sub(o.At).Abs() < offerFresh && !slices.Contains(o.Types, kind)
}

func (a *authority) offered() offer {
	var o offer
	data, err := os.ReadFile(filepath.Join(a.dir, "offer.json"))
	if err != nil || json.Unmarshal(data, &o) != nil {
		return offer{}
	}
	return o
}

// note remembers what a pending authorization offers.
func (a *authority) note(authz acme.Authorization, now time.Time) error {
	o := offer{At: now.UTC()}
	for _, c := range authz.Challenges {
		o.Types = append(o.Types, c.Type)
		if c.Type == string(DNSPersist01) {
			o.Issuers = c.IssuerDomainNames
		}
	}
	slices.Sort(o.Types)
	if old := a.offered(); slices.Equal(old.Types, o.Types) && slices.Equal(old.Issuers, o.Issuers) && now.Sub(old.At).Abs() < day {
		return nil
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err == nil {
		err = writeFile(filepath.Join(a.dir, "offer.json"), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remembering what the authority offers: %w", err)
	}
	return nil
}

const maxListed = 100 // orders looked at

// pending finds an order for exactly this name that our account has begun and
// not ended, where the authority lists them (RFC 8555 section 7.1.2.1). An
// order without a location is none.
func (a *authority) pending(ctx context.Context, host string) (acme.Order, error) {
	seen := 0
	for at := a.account.Orders; at != "" && seen < maxListed; {
		a.transport.list = orderList{}
		// acmez has no call for the list; one for an order fetches it as well.
		if _, err := a.client.GetOrder(context.WithValue(ctx, wantList{}, at), a.account, acme.Order{Location: at}); err != nil {
			return acme.Order{}, err
		}
		list := a.transport.list
		for _, url := range list.urls {
			if seen++; seen > maxListed {
				break
			}
			o, err := a.client.GetOrder(ctx, a.account, acme.Order{Location: url})
			if refused(err) {
				continue
			}
			if err != nil {
				return acme.Order{}, err
			}
			open := o.Status == acme.StatusPending || o.Status == acme.StatusReady
			if open && len(o.Identifiers) == 1 && strings.EqualFold(o.Identifiers[0].Value, host) {
				return o, nil
			}
		}
		at = list.next
	}
	return acme.Order{}, nil
}

// wantList is the key of the URL whose answer is a list of orders.
type wantList struct{}

type orderList struct {
	urls []string
	next string
}

// read takes the list out of an answer and leaves the answer as it was.
func (l *orderList) read(resp *http.Response) error {
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	var list struct{ Orders []string }
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("reading a list of orders: %w", err)
	}
	l.urls = list.Orders
	for _, link := range resp.Header.Values("Link") {
		if url, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">"); ok && strings.Contains(rest, `rel="next"`) {
			l.next = url
		}
	}
	return nil
}
