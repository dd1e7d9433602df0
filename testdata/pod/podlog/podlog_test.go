package podlog

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "prog")
	l.Debugf("hidden")
	l.Infof("a %q", "b")
	var line struct {
		Timestamp, Level, Target string
		Fields                   struct{ Message string }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	if line.Level != "INFO" || line.Target != "prog" || line.Fields.Message != `a "b"` || line.Timestamp == "" {
		t.Errorf("%+v", line)
	}
	out.Reset()
	l.Set("warn", "full", "none")
	l.Infof("hidden")
	l.Errorf("seen")
	if got := strings.TrimSpace(out.String()); got != "ERROR prog: seen" {
		t.Errorf("%q", got)
	}
}
