package caddymodule

import (
	"errors"
	"fmt"
	"html/template"
	"image/color"
	"runtime"
	"strings"
	"time"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

const (
	// qrMaxBytes bounds the text. Above it the modules get too small for a phone to read off a screen.
	qrMaxBytes = 1000

	// qrSturdyBytes is up to where the code can afford to mend more of itself (M, 15 %); longer texts are drawn with
	// larger modules instead (L, 7 %). A screen has no dirt on it.
	qrSturdyBytes = 150

	// qrQuietZone is the white margin the standard asks for, in modules.
	qrQuietZone = 4

	// qrPatience is how long a drawing waits for its turn.
	qrPatience = 100 * time.Millisecond
)

var (
	// errQRText says that no phone would read the code.
	errQRText = errors.New("text is empty or too long for a QR code")

	// errQRBusy says that too many codes are being drawn right now.
	errQRBusy = errors.New("too many QR codes at once")
)

// qrTurns bounds how many codes are drawn at once. A long address costs some 20 ms, and anybody outside WeChat can ask
// for as many as they like: a flood of them must not take the processors from those who are logged in.
var qrTurns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4))

// qrSVG draws text as an inline SVG QR code, with its quiet zone: white ground, all dark modules as one path. The ground
// is drawn, not left to the page, as phones do not read a code on a dark page. What screen readers say of it is the
// element with the id "qr-label" on the same page.
func qrSVG(text string) (template.HTML, error) {
	if text == "" || len(text) > qrMaxBytes {
		return "", errQRText
	}
	select {
	case qrTurns <- struct{}{}:
		defer func() { <-qrTurns }()
	case <-time.After(qrPatience):
		return "", errQRBusy
	}
	return drawQR(text)
}

func drawQR(text string) (template.HTML, error) {
	level := qr.M
	if len(text) > qrSturdyBytes {
		level = qr.L
	}
	code, err := qr.Encode(text, level, qr.Unicode)
	if err != nil {
		return "", fmt.Errorf("encoding QR code: %w", err)
	}
	size := code.Bounds().Dx() + 2*qrQuietZone
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg class="qr" role="img" aria-labelledby="qr-label" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, size, size)
	fmt.Fprintf(&svg, `<path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="`, size, size)
	drawModules(&svg, code)
	svg.WriteString(`"/></svg>`)
	return template.HTML(svg.String()), nil //nolint:gosec // numbers only; the text itself is in the modules
}

// drawModules writes each row's runs of dark modules as rectangles, which keeps the page a third of the size of one
// rectangle per module.
func drawModules(svg *strings.Builder, code barcode.Barcode) {
	size := code.Bounds().Dx()
	for y := range size {
		for x := 0; x < size; {
			run := darkRun(code, x, y)
			if run > 0 {
				fmt.Fprintf(svg, "M%d %dh%dv1h-%dz", x+qrQuietZone, y+qrQuietZone, run, run)
			}
			x += run + 1
		}
	}
}

// darkRun counts the dark modules from (x, y) to the right.
func darkRun(code barcode.Barcode, x, y int) int {
	run := 0
	for x+run < code.Bounds().Dx() && code.At(x+run, y) == color.Black {
		run++
	}
	return run
}
