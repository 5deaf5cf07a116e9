//go:build unix

package main

import (
	"fmt"
	"image/color"
	"io"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quiet is the margin that the standard asks for, in modules.
const quiet = 4

// drawQR draws text as a QR code for a terminal: two modules a character, one above the other. Black and
// white are asked for by number, so that themes with dark ground do not turn it over.
func drawQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return err
	}
	size := code.Bounds().Dx()
	dark := func(x, y int) bool {
		return x >= 0 && y >= 0 && x < size && y < size && code.At(x, y) == color.Black
	}
	for y := -quiet; y < size+quiet; y += 2 {
		var line strings.Builder
		for x := -quiet; x < size+quiet; x++ {
			line.WriteString(half(dark(x, y), dark(x, y+1)))
		}
		if _, err := fmt.Fprintf(w, "  \x1b[38;5;16;48;5;231m%s\x1b[0m\n", line.String()); err != nil {
			return err
		}
	}
	return nil
}

func half(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}
