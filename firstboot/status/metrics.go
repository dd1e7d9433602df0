package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A metric is one family of samples.
type metric struct {
	name, kind, help string
	samples          []sample
}

type sample struct {
	labels []string // name, value, name, value, ...
	value  float64
}

// Metrics is the status in Prometheus' text exposition format 0.0.4. Names
// follow its conventions: base units, and _total for what only grows.
func Metrics(s Status) string {
	one := func(v float64) []sample { return []sample{{nil, v}} }
	all := []metric{
		{"prose_ready", "gauge", "Whether everything answers: 1 or 0.", one(truth(s.State == Ready))},
		{"prose_state", "gauge", "The state of the machine: 1 for the one that it is in.", nil},
		{"prose_info", "gauge", "Versions and domain, always 1.", []sample{{versions(s), 1}}},
	}
	for _, state := range []State{Ready, Degraded, Working, Waiting, Broken} {
		all[1].samples = append(all[1].samples, sample{[]string{"state", string(state)}, truth(s.State == state)})
	}
	if !s.At.IsZero() {
		all = append(all, metric{"prose_looked_timestamp_seconds", "gauge", "When the agent looked last; one that stays behind says that it does not run.", one(seconds(s.At))})
	}
	items := metric{"prose_item_state", "gauge", "How far an item of the list is: 1 for the one that it is in.", nil}
	for _, it := range once(s.Items, func(it Item) string { return it.Key }) {
		for _, p := range urgency {
			items.samples = append(items.samples, sample{[]string{"item", it.Key, "state", string(p)}, truth(it.Progress == p)})
		}
	}
	records := metric{"prose_record_state", "gauge", "How a DNS record was found: 1 for the one that it is in.", nil}
	for _, r := range once(s.Records, func(r Record) string { return r.Name + " " + r.Type + " " + strconv.FormatBool(r.Optional) }) {
		for _, state := range []RecordState{Present, Missing, Wrong, Unknown} {
			labels := []string{"name", r.Name, "type", r.Type, "optional", strconv.FormatBool(r.Optional), "state", string(state)}
			records.samples = append(records.samples, sample{labels, truth(r.State == state)})
		}
	}
	signed := metric{"prose_certificate_signed", "gauge", "Whether an authority has signed the certificate: 1 or 0.", nil}
	until := metric{"prose_certificate_not_after_seconds", "gauge", "When the certificate ends, in seconds since 1970.", nil}
	renew := metric{"prose_certificate_renew_seconds", "gauge", "When the certificate is to be replaced, in seconds since 1970.", nil}
	orders := metric{"prose_orders_total", "counter", "Orders begun at the authority, as far as remembered.", nil}
	for _, c := range once(s.Certificates, func(c Certificate) string { return c.Name }) {
		name := []string{"name", c.Name}
		signed.samples = append(signed.samples, sample{name, truth(c.Signed)})
		if !c.NotAfter.IsZero() {
			until.samples = append(until.samples, sample{name, seconds(c.NotAfter)})
		}
		if !c.Renew.IsZero() {
			renew.samples = append(renew.samples, sample{name, seconds(c.Renew)})
		}
		orders.samples = append(orders.samples, sample{name, float64(max(c.Orders, 0))})
	}
	all = append(all, items, records, signed, until, renew, orders)
	if s.Disk != nil {
		all = append(all,
			metric{"prose_disk_size_bytes", "gauge", "Size of the disk with the Pod's data, without what is kept for root.", one(float64(s.Disk.Size))},
			metric{"prose_disk_free_bytes", "gauge", "Bytes left on it.", one(float64(s.Disk.Free))})
	}
	var b strings.Builder
	for _, m := range all {
		m.write(&b)
	}
	return b.String()
}

func (m metric) write(b *strings.Builder) {
	if len(m.samples) == 0 {
		return
	}
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
	for _, s := range m.samples {
		b.WriteString(m.name)
		for i := 0; i+1 < len(s.labels); i += 2 {
			fmt.Fprintf(b, `%s%s="%s"`, map[bool]string{true: "{", false: ","}[i == 0], s.labels[i], label(s.labels[i+1]))
		}
		if len(s.labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteString(" " + strconv.FormatFloat(s.value, 'f', -1, 64) + "\n")
	}
}

// label escapes a value as the format wants it.
func label(v string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(clean(strings.ToValidUTF8(v, "?")))
}

// once leaves out what has the same labels as one before: a second sample would
// make the whole text wrong.
func once[T any](all []T, key func(T) string) []T {
	seen := map[string]bool{}
	var out []T
	for _, one := range all {
		if k := clean(key(one)); !seen[k] {
			seen[k] = true
			out = append(out, one)
		}
	}
	return out
}

func versions(s Status) []string {
	labels := []string{"agent", s.Agent, "domain", s.Domain}
	if s.Pod != nil {
		labels = append(labels, "api", s.Pod.API, "server", s.Pod.Server)
	}
	return labels
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }
