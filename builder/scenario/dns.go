package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// dnsStates are what DNS may say of all names of the Pod at once.
var dnsStates = []string{"right", "wrong", "none"}

var dnsCommands = []Command{
	{Name: "dns", Args: "right|wrong|none|NAME TYPE VALUE...", least: 1, most: -1, valid: validDNS, do: doDNS,
		Doc: "Changes DNS: all names of the Pod lead to the machine, to another one or nowhere; or one name has these values of A, AAAA, CNAME, TXT, CAA (as `issue;ca.example`) or SRV (as `0 5 5222 TARGET`, in quotes), no value removes them."},
}

// recordTypes are what the name server can hold.
var recordTypes = []string{"A", "AAAA", "CNAME", "CAA", "TXT", "SRV"}

func validDNS(args []string) error {
	if len(args) == 1 {
		return oneOf(args[0], dnsStates)
	}
	kind := args[1]
	if err := oneOf(kind, recordTypes); err != nil {
		return err
	}
	for _, v := range args[2:] {
		switch kind {
		case "A", "AAAA":
			if strings.Contains(v, "{") {
				continue
			}
			if ip, err := netip.ParseAddr(v); err != nil || ip.Is4() != (kind == "A") {
				return fmt.Errorf("%q is no value of %s", v, kind)
			}
		case "SRV":
			if strings.Contains(v, "{") {
				continue
			}
			if _, err := parseService(v); err != nil {
				return err
			}
		case "CAA":
			if !strings.Contains(v, ";") {
				return fmt.Errorf("%q is not TAG;VALUE", v)
			}
		}
	}
	if kind == "CNAME" && len(args) > 3 {
		return errors.New("a name has one CNAME")
	}
	return nil
}

func doDNS(ctx context.Context, r *run, args []string) error {
	if len(args) == 1 {
		return r.world.names.all(ctx, r.names(), args[0])
	}
	return r.world.names.set(ctx, args[0], args[1], args[2:])
}

// A nameServer is pebble-challtestsrv, told over its management interface
// (its README lists the requests), behind a front that knows SRV records.
type nameServer struct{ services srvRecords }

// all gives every name one answer of dnsStates.
func (n *nameServer) all(ctx context.Context, names []string, state string) error {
	var addresses []string
	switch state {
	case "right":
		addresses = []string{Address}
	case "wrong":
		addresses = []string{elsewhere}
	}
	for _, name := range names {
		if err := n.set(ctx, name, "A", addresses); err != nil {
			return err
		}
	}
	return nil
}

// set replaces the values that a name has of a type.
func (n *nameServer) set(ctx context.Context, name, kind string, values []string) error {
	if kind == "SRV" {
		return n.services.set(name, values)
	}
	low := strings.ToLower(kind)
	if err := n.post(ctx, "/clear-"+low, map[string]any{"host": name}); err != nil || len(values) == 0 {
		return err
	}
	switch kind {
	case "CNAME":
		return n.post(ctx, "/set-cname", map[string]any{"host": name, "target": values[0]})
	case "CAA":
		var policies []map[string]string
		for _, v := range values {
			tag, value, _ := strings.Cut(v, ";")
			policies = append(policies, map[string]string{"tag": tag, "value": value})
		}
		return n.post(ctx, "/add-caa", map[string]any{"host": name, "policies": policies})
	case "TXT":
		for _, v := range values {
			if err := n.post(ctx, "/set-txt", map[string]any{"host": name, "value": v}); err != nil {
				return err
			}
		}
		return nil
	}
	return n.post(ctx, "/add-"+low, map[string]any{"host": name, "addresses": values})
}

func (n *nameServer) post(ctx context.Context, path string, body any) error {
	fail := func(err error) error { return fmt.Errorf("telling the name server %s: %w", path, err) }
	data, err := json.Marshal(body)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+dnsManagement+path, bytes.NewReader(data))
	if err != nil {
		return fail(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if res.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("it answered %s: %s", res.Status, strings.TrimSpace(string(text))))
	}
	return nil
}
