package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The README shows the same syntax as the parsers' doc comments.
func TestReadmeShowsTheSyntax(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_caddyfile.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range syntaxBlocks(string(source)) {
			blocks++
			if !strings.Contains(string(readme), "```caddyfile-syntax\n"+block+"```") {
				t.Errorf("README.md lacks this block of %s:\n%s", file, block)
			}
		}
	}
	if blocks < 6 {
		t.Errorf("%d blocks were found", blocks)
	}
}

// syntaxBlocks returns the indented blocks of a file's comments.
func syntaxBlocks(source string) (blocks []string) {
	block := ""
	for line := range strings.Lines(source) {
		if text, ok := strings.CutPrefix(line, "//\t"); ok {
			block += text
			continue
		}
		if block != "" {
			blocks = append(blocks, block)
		}
		block = ""
	}
	return blocks
}
