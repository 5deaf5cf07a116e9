package integration

import (
	"strings"
)

// canaryMin is the shortest text that is looked for: anything shorter turns up by chance.
const canaryMin = 16

// canaryScanner finds any of many texts in one pass: a suite knows thousands of secrets, and its logs have
// megabytes. A rolling hash over the first 16 bytes of each (Rabin and Karp) finds candidates.
type canaryScanner struct {
	byHash map[uint32][]canarySecret
	maybe  [1 << 16]bool
}

// canaryFound is a secret and where it stands in the text.
type canaryFound struct {
	canarySecret
	at int
}

const canaryBase = 16777619

func newCanaryScanner(secrets []canarySecret) *canaryScanner {
	s := &canaryScanner{byHash: map[uint32][]canarySecret{}}
	for _, secret := range secrets {
		if len(secret.text) < canaryMin {
			continue
		}
		h := canaryHash(secret.text[:canaryMin])
		s.byHash[h] = append(s.byHash[h], secret)
		s.maybe[h>>16] = true
	}
	return s
}

func canaryHash(text string) (h uint32) {
	for i := range len(text) {
		h = h*canaryBase + uint32(text[i])
	}
	return h
}

// find returns every secret in text, each once.
func (s *canaryScanner) find(text string) (list []canaryFound) {
	if len(text) < canaryMin || len(s.byHash) == 0 {
		return nil
	}
	oldest := uint32(1) // canaryBase to the power of canaryMin
	for range canaryMin {
		oldest *= canaryBase
	}
	h := canaryHash(text[:canaryMin])
	seen := map[string]bool{}
	for i := 0; ; i++ {
		if s.maybe[h>>16] {
			for _, secret := range s.byHash[h] {
				if strings.HasPrefix(text[i:], secret.text) && !seen[secret.text] {
					seen[secret.text] = true
					list = append(list, canaryFound{secret, i})
				}
			}
		}
		if i+canaryMin == len(text) {
			return list
		}
		h = h*canaryBase + uint32(text[i+canaryMin]) - oldest*uint32(text[i])
	}
}
