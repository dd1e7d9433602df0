package screens

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"testing"
)

// judge says what is wrong with a screenshot, as far as pixels tell.
func judge(t *testing.T, path string, width int, dark bool) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var all []string
	if m.Bounds().Dx() != width {
		all = append(all, fmt.Sprintf("it is %d pixels wide, want %d", m.Bounds().Dx(), width))
	}
	ground, share := background(m)
	// Text and lines cover a part of any page, and never most of it.
	if share > 0.985 || share < 0.3 {
		all = append(all, fmt.Sprintf("it is blank, or full: %.1f %% has one colour", share*100))
	}
	if l := luminance(ground); dark && l > 0.05 || !dark && l < 0.85 {
		all = append(all, fmt.Sprintf("the background %v has the luminance %.2f (dark: %v)", ground, l, dark))
	}
	return all
}

// background is the most common colour, and its share of all pixels.
func background(m image.Image) (color.Color, float64) {
	count := map[color.RGBA]int{}
	var best color.RGBA
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)
			if count[c]++; count[c] > count[best] {
				best = c
			}
		}
	}
	return best, float64(count[best]) / float64(b.Dx()*b.Dy())
}

// luminance is near enough to WCAG's relative luminance to tell light from
// dark: 0 to 1, gamma taken as 2.
func luminance(c color.Color) float64 {
	r, g, b, _ := c.RGBA()
	square := func(v uint32) float64 { f := float64(v) / 0xffff; return f * f }
	return 0.2126*square(r) + 0.7152*square(g) + 0.0722*square(b)
}
