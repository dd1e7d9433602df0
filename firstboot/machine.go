package firstboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/firstboot/beneath"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/command"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/door"
	"github.com/prose-im/prose-image/firstboot/engine"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/site"
)

// Places on the machine. The directories are in the image.
const (
	stateDir  = "/var/lib/prose-firstboot"
	runDir    = "/run/prose-firstboot"
	doorState = "/var/lib/prose-door" // the door's own
	podDir    = "/usr/lib/prose/pod"
	wallsDir  = "/etc/nftables.d/prose.d"
	// resolved reads drop-ins in the order of their names (resolved.conf(5)).
	resolversPath = "/etc/systemd/resolved.conf.d/prose-firstboot.conf"
	switchedOn    = "/run/prose" // there while prose.service is active
	liveDir       = "/etc/letsencrypt/live"
	project       = "prose" // of the Pod's containers, as compose.yaml names it
)

var (
	root  = beneath.Owner{}
	prose = beneath.Owner{UID: 1001, GID: 1001}
)

// A machine is what the agent looks at and works on.
type machine struct {
	at    string // what paths begin with; empty on a real machine
	clock func() time.Time
	// sinceBoot is a clock that nobody sets.
	sinceBoot func() time.Duration
	engine    *engine.Client
	paths     certificate.Paths
	ports     certificate.Ports
	// dashboard is where the Pod's own routes are asked, past NGINX.
	dashboard string
	// preflight's ports, where 80 and 443 are not free
	http, https uint16
	allow       []netip.Prefix

	// web asks the platform's metadata service.
	web func(context.Context) *cloudinit.Web

	testNGINX      func(ctx context.Context, config string) error
	reloadNGINX    func(context.Context) error
	reloadWalls    func(context.Context) error
	reloadResolver func(context.Context) error
	restartDoor    func(context.Context) error
}

// thisMachine is the one that the program runs on.
func thisMachine() *machine {
	return &machine{
		clock:     time.Now,
		sinceBoot: sinceBoot,
		engine:    engine.New(engine.Socket),
		paths:     certificate.StandardPaths,
		ports:     certificate.StandardPorts,
		dashboard: "http://127.0.0.1:8081",
		web:       cloudinit.NewWeb,
		testNGINX: func(ctx context.Context, config string) error {
			return command.Run(ctx, "nginx", "-t", "-q", "-c", config)
		},
		// A server that is down comes up with what it is to read.
		reloadNGINX: func(ctx context.Context) error {
			return command.Run(ctx, "systemctl", "reload-or-restart", "nginx.service")
		},
		reloadWalls: func(ctx context.Context) error {
			return command.Run(ctx, "systemctl", "reload", "prose-walls.service")
		},
		reloadResolver: func(ctx context.Context) error {
			return command.Run(ctx, "systemctl", "try-reload-or-restart", "systemd-resolved.service")
		},
		restartDoor: func(ctx context.Context) error {
			// The socket makes its file anew, and starts the service when it is needed.
			if err := command.Run(ctx, "systemctl", "stop", "prose-door.socket", "prose-door.service"); err != nil {
				return err
			}
			return command.Run(ctx, "systemctl", "start", "prose-door.socket")
		},
	}
}

// kick has the agent's unit look now instead of at its next time.
func kick(ctx context.Context) error {
	return command.Run(ctx, "systemctl", "start", "--no-block", "prose-firstboot.service")
}

func (m *machine) path(p string) string { return filepath.Join(m.at, p) }

// write makes a file have content, mode and owner, and says whether it had to.
// Its directory is opened without following a link.
func (m *machine) write(path string, data []byte, mode os.FileMode, owner beneath.Owner) (bool, error) {
	d, err := beneath.Open(m.path(filepath.Dir(path)))
	if err != nil {
		return false, err
	}
	defer d.Close()
	return d.WriteFile(filepath.Base(path), data, mode, owner)
}

// read reads a file of owner, at most a mebibyte; nil when it is not there.
func (m *machine) read(path string, owner beneath.Owner) ([]byte, error) {
	d, err := beneath.Open(m.path(filepath.Dir(path)))
	if err == nil {
		defer d.Close()
		var b []byte
		if b, err = d.ReadFile(filepath.Base(path), 1<<20, owner.UID); err == nil {
			return b, nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}

// mkdir makes a directory have mode and owner.
func (m *machine) mkdir(path string, mode os.FileMode, owner beneath.Owner) error {
	d, err := beneath.Open(m.path(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer d.Close()
	sub, err := d.Mkdir(filepath.Base(path), mode, owner)
	if err != nil {
		return err
	}
	return sub.Close()
}

// servers are the name servers that the owner names, else those that the network
// gave. resolved's own stub would answer from a cache, and keep "no such name"
// for as long as the zone says.
func (m *machine) servers(s settings.Settings) ([]netip.AddrPort, error) {
	if len(s.Network.Resolvers) > 0 {
		var out []netip.AddrPort
		for _, r := range s.Network.Resolvers {
			addr, err := netip.ParseAddr(r)
			if err != nil {
				return nil, fmt.Errorf("reading the setting network.resolvers: %w", err)
			}
			out = append(out, netip.AddrPortFrom(addr, 53))
		}
		return out, nil
	}
	if s, err := dns.System(m.path("/run/systemd/resolve/resolv.conf")); err == nil {
		return s, nil
	}
	return dns.System(m.path("/etc/resolv.conf"))
}

// addresses are those by which the world may know the machine: what the
// platform says, then those of interfaces that lead outside, public ones first.
func addresses(fromPlatform []netip.Addr) []netip.Addr {
	out := slices.Clone(fromPlatform)
	interfaces, err := net.Interfaces()
	if err != nil {
		return out
	}
	var inside []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || inner(i.Name) {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, ok := netip.AddrFromSlice(n.IP)
			if addr = addr.Unmap(); !ok || !addr.IsGlobalUnicast() || slices.Contains(out, addr) {
				continue
			}
			if private(addr) {
				inside = append(inside, addr)
			} else {
				out = append(out, addr)
			}
		}
	}
	return append(out, inside...)
}

// private tells addresses that only a network of its own knows: those of RFC
// 1918 and 4193, and site-local ones (RFC 3879), which old networks still have.
func private(a netip.Addr) bool {
	return a.IsPrivate() || a.Is6() && a.As16()[0] == 0xfe && a.As16()[1]&0xc0 == 0xc0
}

// inner tells interfaces that lead to containers.
func inner(name string) bool {
	return strings.HasPrefix(name, "docker") || strings.HasPrefix(name, "br-") || strings.HasPrefix(name, "veth")
}

// certbotPair is where a name's pair lies for NGINX.
func (m *machine) pairs(domain string) map[string]site.Pair {
	out := map[string]site.Pair{}
	for _, name := range site.Names(domain) {
		dir := filepath.Join(m.paths.Live, "live", name)
		out[name] = site.Pair{Chain: dir + "/fullchain.pem", Key: dir + "/privkey.pem"}
	}
	return out
}

var noRedirects = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// account has the door ask the Pod whether an account exists. The door remembers
// what it has heard before anybody acts on it: a link that is made after an account
// is gone is of the epoch that begins with that.
func (m *machine) account(ctx context.Context) (bool, error) {
	return door.Account(ctx, m.path(door.Socket))
}
