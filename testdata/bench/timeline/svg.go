package timeline

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The picture's measures, in pixels.
const (
	panel  = 560 // width of one boot
	gap    = 24
	top    = 64
	row    = 15
	bar    = 11
	margin = 8
)

var colours = map[Kind]string{System: "#9aa7b4", Container: "#4f8fd0", Ours: "#7d63b8"}

// SVG draws boots side by side, on one scale. Equal boots give equal bytes.
func SVG(w io.Writer, boots []Timeline) error {
	longest, rows := 1.0, 0
	for _, t := range boots {
		rows = max(rows, len(t.Spans))
		for _, s := range append(append([]Span(nil), t.Spans...), t.Moments...) {
			longest = max(longest, s.To)
		}
	}
	width, height := len(boots)*(panel+gap)+gap, top+rows*row+2*gap
	x := func(s float64) float64 { return math.Round(10*(margin+s/longest*(panel-2*margin))) / 10 }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="10">`+"\n", width, height)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width, height)
	for i, t := range boots {
		fmt.Fprintf(&b, "<g transform=\"translate(%d,0)\">\n<text x=\"%d\" y=\"20\" font-size=\"14\">%s</text>\n", gap+i*(panel+gap), margin, escape(t.Title))
		for s, by := 0.0, step(longest); s <= longest; s += by {
			fmt.Fprintf(&b, "<path d=\"M%.1f %dV%d\" stroke=\"#dde3e8\"/><text x=\"%.1f\" y=\"%d\" fill=\"#667\">%.0f s</text>\n", x(s), top-8, height-gap, x(s)+2, top-12, s)
		}
		for n, s := range t.Spans {
			y := top + n*row
			fmt.Fprintf(&b, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", x(s.From), y, max(1, x(s.To)-x(s.From)), bar, colours[s.Kind])
			// Beside the bar, on the side that has more room.
			place, anchor := x(s.To)+4, "start"
			if s.From > longest-s.To {
				place, anchor = x(s.From)-4, "end"
			}
			fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s %.1f s</text>\n", place, y+9, anchor, escape(clip(s.Name)), s.To-s.From)
		}
		for n, m := range t.Moments {
			fmt.Fprintf(&b, "<path d=\"M%.1f %dV%d\" stroke=\"#c0392b\" stroke-dasharray=\"4 2\"/><text x=\"%.1f\" y=\"%d\" fill=\"#c0392b\" text-anchor=\"end\">%s %.1f s</text>\n",
				x(m.From), top-24, height-gap, x(m.From)-3, height-gap+10-(len(t.Moments)-1-n)*11, escape(m.Name), m.From)
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// step is a round number of seconds, for at most ten lines.
func step(longest float64) float64 {
	for _, s := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		if longest/s <= 10 {
			return s
		}
	}
	return longest / 10
}

func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
