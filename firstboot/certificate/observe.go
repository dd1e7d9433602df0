package certificate

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"
)

// Observe looks at the disk and at what the servers of this machine show. It
// asks nobody outside.
func (k *Keeper) Observe(ctx context.Context) (Observed, error) {
	now := k.Clock()
	o := Observed{}
	for _, n := range k.Settings.Names {
		var st State
		var err error
		if st.Record, err = k.Paths.loadRecord(n.Host, now); err != nil {
			return nil, err
		}
		st.Live = k.Paths.live(n.Host)
		if n.Method == Owned {
			st.Own, st.OwnWhy = k.Settings.Own.read(n.Host)
		}
		if !st.Live.Signed || !st.Live.Valid(now) {
			st.Archive = k.Paths.archived(n.Host, now)
		}
		if n.HTTPS {
			st.HTTPS = k.shows("https "+n.Host, st.Live, func() Served { return ServedHTTPS(ctx, k.Ports.HTTPS, n.Host) })
		}
		if n.XMPP != NoXMPP {
			st.Prosody, _, _, _ = readPair(filepath.Join(k.Paths.Prosody, n.Host), n.Host)
			st.XMPP = k.shows("xmpp "+n.Host, st.Prosody, func() Served { return k.xmpp(ctx, n) })
		}
		o[n.Host] = st
	}
	return o, ctx.Err()
}

// A showing is what a server showed, and when.
type showing struct {
	at time.Time
	Served
}

// showsFor is how long a server is taken to show what it should have shown. A
// look follows each step, and handshakes are most of what it costs.
const showsFor = 10 * time.Second

// shows asks a server what it shows, unless it has just shown what it should.
func (k *Keeper) shows(what string, file Pair, ask func() Served) Served {
	now := k.Clock()
	last, asked := k.shown[what]
	if age := now.Sub(last.at); asked && age >= 0 && age < showsFor && last.Shows(file) {
		return last.Served
	}
	s := ask()
	if k.shown == nil {
		k.shown = map[string]showing{}
	}
	k.shown[what] = showing{now, s}
	return s
}

func (k *Keeper) xmpp(ctx context.Context, n Name) Served {
	port := map[XMPP]netip.AddrPort{Client: k.Ports.Client, Server: k.Ports.Server}[n.XMPP]
	return ServedXMPP(ctx, port, n.Host, n.XMPP)
}
