package status_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

func parseMetrics(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("Prometheus does not read it: %v\n%s", err, text)
	}
	return all
}

// Prometheus' own parser reads it, and what promtool checks is as it should be.
func TestMetricsAreMetrics(t *testing.T) {
	for _, e := range statustest.Examples() {
		text := status.Metrics(e.Status)
		all := parseMetrics(t, text)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", e.Name, p.Metric, p.Text)
		}
		seen := map[string]bool{}
		for name, f := range all {
			for _, m := range f.Metric {
				key := name
				for _, l := range m.Label {
					key += "|" + l.GetName() + "=" + l.GetValue()
				}
				if seen[key] {
					t.Errorf("%s: %s comes twice", e.Name, key)
				}
				seen[key] = true
			}
		}
	}
}

// value is of the sample with these labels, name by name; -1 when there is none.
func value(all map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range all[name].GetMetric() {
		found := 0
		for _, l := range m.Label {
			for i := 0; i+1 < len(labels); i += 2 {
				if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
					found++
				}
			}
		}
		if found*2 == len(labels) {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}

func TestMetricsSayWhatTheStatusSays(t *testing.T) {
	s := example(t, "dns").Status
	s.Disk = &status.Disk{Size: 10 << 30, Free: 3 << 30}
	s.Certificates[0].NotAfter, s.Certificates[0].Renew, s.Certificates[0].Orders = time.Unix(1900000000, 0), time.Unix(1800000000, 0), 4
	s.Pod = &status.Versions{API: "1.2.3", Server: "4.5.6"}
	all := parseMetrics(t, status.Metrics(s))
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{0, "prose_ready", nil},
		{1, "prose_state", []string{"state", "waiting"}},
		{0, "prose_state", []string{"state", "ready"}},
		{1, "prose_info", []string{"domain", "example.org", "api", "1.2.3", "server", "4.5.6", "agent", "v0.1.0"}},
		{float64(statustest.At.Unix()), "prose_looked_timestamp_seconds", nil},
		{1, "prose_item_state", []string{"item", "dns", "state", "owner"}},
		{1, "prose_record_state", []string{"name", "prose.example.org", "type", "A", "state", "wrong"}},
		{0, "prose_record_state", []string{"name", "prose.example.org", "type", "A", "state", "present"}},
		{0, "prose_certificate_signed", []string{"name", "example.org"}},
		{1900000000, "prose_certificate_not_after_seconds", []string{"name", "example.org"}},
		{1800000000, "prose_certificate_renew_seconds", []string{"name", "example.org"}},
		{-1, "prose_certificate_renew_seconds", []string{"name", "groups.example.org"}},
		{4, "prose_orders_total", []string{"name", "example.org"}},
		{10 << 30, "prose_disk_size_bytes", nil},
		{3 << 30, "prose_disk_free_bytes", nil},
	} {
		if got := value(all, c.name, c.labels...); got != c.want {
			t.Errorf("%s%q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if got := value(parseMetrics(t, status.Metrics(example(t, "ready").Status)), "prose_ready"); got != 1 {
		t.Errorf("ready is %v", got)
	}
}
