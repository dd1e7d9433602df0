package firstboot

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
)

// reachPath keeps how the machine's names were found once they have their
// certificates: no order looks at them then for two months, and DNS may change.
const reachPath = runDir + "/reach.json"

// A reach is what was found, by name.
type reach map[string]preflight.Result

// watched are the names that are looked at. The domain itself may live
// elsewhere, and its rooms are for other servers only.
func watched(domain string) []string { return []string{"prose." + domain, "admin.prose." + domain} }

// lookAround looks whether the names that have a certificate still lead here:
// soon again while one does not, or while the machine does not know whether it
// has taken over from the one that it is a copy of.
func (a *agent) lookAround(ctx context.Context, w *world) reach {
	m := a.machine
	found := reach{}
	if b, err := m.read(reachPath, root); err == nil && b != nil && json.Unmarshal(b, &found) != nil {
		found = reach{}
	}
	before := maps.Clone(found)
	for _, host := range watched(w.state.Domain) {
		if st := w.certs[host]; !st.Live.Signed || !w.siteTaken() {
			delete(found, host)
			continue
		}
		r, ok := found[host]
		every := lookLate
		// What cannot be proven from here will not be in half a minute either.
		if len(r.Findings) > 0 && !r.Soft() || !w.state.Copied.IsZero() {
			every = lookSoon
		}
		if age := w.now.Sub(r.At); ok && age >= 0 && age < every {
			continue
		}
		findings, _ := w.keeper.Settings.Preflight.Check(ctx, host)
		r = preflight.Result{At: w.now, Findings: findings}
		if ctx.Err() != nil {
			return before
		}
		found[host] = r
	}
	if maps.EqualFunc(before, found, func(a, b preflight.Result) bool { return a.At.Equal(b.At) }) {
		return found
	}
	b, err := json.Marshal(found)
	if err == nil {
		_, err = m.write(reachPath, b, 0o600, root)
	}
	if err != nil {
		a.logf("remembering how the names were found: %v", err)
	}
	return found
}

// leadsHere says whether all watched names were found to lead to this machine,
// as far as that can be seen from here.
func (r reach) leadsHere(domain string) bool {
	for _, host := range watched(domain) {
		if f, ok := r[host]; !ok || !f.Ready() && !f.Soft() {
			return false
		}
	}
	return true
}

// over puts what was found later over what was found before an order.
func (r reach) over(certs certificate.Observed) certificate.Observed {
	out := maps.Clone(certs)
	for host, found := range r {
		if st, ok := out[host]; ok && found.At.After(st.Record.Preflight.At) {
			st.Record.Preflight = found
			out[host] = st
		}
	}
	return out
}

// away are the addresses of others to which DNS leads the names.
func (r reach) away(domain string) []string {
	var out []string
	for _, host := range watched(domain) {
		for _, f := range r[host].Findings {
			if f.Kind != preflight.Foreign && f.Kind != preflight.Silent && f.Kind != preflight.Special {
				continue
			}
			for _, at := range f.Found {
				if !slices.Contains(out, at) {
					out = append(out, at)
				}
			}
		}
	}
	return out
}
