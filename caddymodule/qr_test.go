package caddymodule

import (
	"fmt"
	"image/color"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"
)

// rasterise reads the modules back out of a drawing, as a browser would fill its path.
func rasterise(t *testing.T, svg string) [][]bool {
	t.Helper()
	box := regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`).FindStringSubmatch(svg)
	if box == nil || box[1] != box[2] {
		t.Fatalf("no square viewBox in %.120s", svg)
	}
	size, _ := strconv.Atoi(box[1])
	if !strings.Contains(svg, fmt.Sprintf(`<path fill="#fff" d="M0 0h%dv%dH0z"/>`, size, size)) {
		t.Fatal("the ground is not white all over")
	}
	grid := make([][]bool, size)
	for y := range grid {
		grid[y] = make([]bool, size)
	}
	_, path, _ := strings.Cut(svg, `<path fill="#000" d="`)
	path, rest, closed := strings.Cut(path, `"`)
	if !closed || rest != "/></svg>" {
		t.Fatalf("the drawing ends in %q", rest)
	}
	step := regexp.MustCompile(`^M(\d+) (\d+)h(\d+)v1h-(\d+)z`)
	for path != "" {
		m := step.FindStringSubmatch(path)
		if m == nil || m[3] != m[4] {
			t.Fatalf("not a run of modules: %.40q", path)
		}
		path = path[len(m[0]):]
		x, _ := strconv.Atoi(m[1])
		y, _ := strconv.Atoi(m[2])
		run, _ := strconv.Atoi(m[3])
		for i := range run {
			grid[y][x+i] = true
		}
	}
	return grid
}

func TestQRSVGDrawsEveryModule(t *testing.T) {
	tests := map[string]struct {
		text  string
		level qr.ErrorCorrectionLevel
	}{
		"a short address":       {"https://a.example/", qr.M},
		"an address with query": {"https://member.example.com/orders/list?year=2024&tab=open", qr.M},
		"one with a port":       {"https://member.example.com:8443/%E4%BC%9A%E5%91%98/", qr.M},
		"the longest sturdy":    {strings.Repeat("a", qrSturdyBytes), qr.M},
		"a long one":            {strings.Repeat("a", qrSturdyBytes+1), qr.L},
		"the longest":           {strings.Repeat("é", qrMaxBytes/2), qr.L},
		"digits only":           {"0123456789", qr.M},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			svg, err := qrSVG(test.text)
			if err != nil {
				t.Fatal(err)
			}
			want, err := qr.Encode(test.text, test.level, qr.Unicode)
			if err != nil {
				t.Fatal(err)
			}
			grid, n := rasterise(t, string(svg)), want.Bounds().Dx()
			if len(grid) != n+8 {
				t.Fatalf("%d modules wide, want %d and 4 of quiet zone on each side", len(grid), n)
			}
			for y, row := range grid {
				for x, dark := range row {
					inside := x >= 4 && y >= 4 && x < n+4 && y < n+4
					if dark != (inside && want.At(x-4, y-4) == color.Black) {
						t.Fatalf("module %d,%d is wrong", x-4, y-4)
					}
				}
			}
		})
	}
}

func TestQRSVGRefusesWhatNoPhoneReads(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("a", qrMaxBytes+1)} {
		if svg, err := qrSVG(text); err == nil || svg != "" {
			t.Errorf("%d bytes were drawn", len(text))
		}
	}
}

// Drawing is the dearest thing a stranger can ask for; without a bound, strangers could have every processor.
func TestAFloodOfQRCodesGetsTheAddressAlone(t *testing.T) {
	for range cap(qrTurns) {
		qrTurns <- struct{}{}
	}
	body := bodyOf(page{Name: "open", Status: 403, Address: "https://a.example/"}, "en")
	for range cap(qrTurns) {
		<-qrTurns
	}
	if strings.Contains(body, `class="qr"`) || !strings.Contains(body, "https://a.example/") {
		t.Error("want the address and no code")
	}
	if _, err := qrSVG("https://a.example/"); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

func TestQRSVGIsLabelled(t *testing.T) {
	svg, err := qrSVG(`https://a.example/"><script>`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(svg), `role="img" aria-labelledby="qr-label"`) {
		t.Error("no role or label")
	}
	if strings.Contains(string(svg), "script") || strings.Contains(string(svg), "a.example") {
		t.Error("the text itself is in the drawing")
	}
	if body := bodyOf(page{Name: "open", Status: 403, Address: "https://a.example/"}, "en"); strings.Count(body, `id="qr-label"`) != 1 {
		t.Error("the label is not on the page")
	}
}
