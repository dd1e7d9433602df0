package main

import (
	"testing"
)

// What a boot has told becomes its figures.
func TestRead(t *testing.T) {
	const report = `[{"cases":[
		{"line":"ports","at":120.5,"cpu":200},
		{"line":"trusted","at":130,"cpu":210},
		{"line":"within 300s http 200 GET http://x/","at":140,"cpu":220},
		{"line":"print \"cat /proc/uptime\"","at":160,"cpu":230},
		{"line":"print 'date'","at":170,"cpu":240}]}]`
	s, err := read([]byte(report), "150.0 100\nUserspaceTimestampMonotonic=5000000\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.ports != 120.5 || s.portsCPU != 200 || s.ready != 140 || s.readyCPU != 220 {
		t.Errorf("%+v", s)
	}
	if len(s.timeline.Spans) != 2 || s.timeline.Spans[0].To != 10 || len(s.timeline.Moments) != 3 || s.timeline.Moments[2].From != 140 {
		t.Errorf("%+v", s.timeline)
	}
	for what, report := range map[string]string{
		"no JSON":      "",
		"no boot":      "[]",
		"no ports":     `[{"cases":[{"line":"print x","at":1}]}]`,
		"nothing told": `[{"cases":[{"line":"ports","at":1}]}]`,
	} {
		if _, err := read([]byte(report), "0.5 1\nUserspaceTimestampMonotonic=1\n"); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestMiddle(t *testing.T) {
	by := func(s started) float64 { return s.ports }
	if got := middle([]started{{ports: 9}, {ports: 1}, {ports: 5}}, by).ports; got != 5 {
		t.Error(got)
	}
}
