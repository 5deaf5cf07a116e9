package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// tokensPlace is a site at one origin, with somebody signed in there and nowhere else.
type tokensPlace struct {
	name   string
	edge   *tokensEdge
	host   string // the Host header
	cookie string
	token  string
	who    string
}

func (p *tokensPlace) page() string {
	scheme := "https://"
	if p.edge.sni == "" {
		scheme = "http://"
	}
	return scheme + p.host + "/member/"
}

func (w *tokensSites) place(t *testing.T, name, host, cookie string) *tokensPlace {
	t.Helper()
	sni, _, _ := strings.Cut(host, ":")
	return &tokensPlace{name: name, edge: w.edge(t, sni), host: host, cookie: cookie}
}

// TestTokens is what is tried with every kind of key.
func TestTokens(t *testing.T) {
	other := newTokensSites(t, tokensKeyKinds[0].option, "")
	tokensEachKey(t, func(t *testing.T, w *tokensSites, keys string) {
		if keys != tokensKeyKinds[0].option {
			other.rekey(t, strings.Replace(keys, "TOKENS_SECRET", "TOKENS_OTHER", 1))
		}
		t.Run("wrong in one thing", func(t *testing.T) { tokensWrongInOneThing(t, w, keys) })
		t.Run("of others", func(t *testing.T) { tokensOfOthers(t, tokensPlaces(t, w, other)) })
		t.Run("for another purpose", func(t *testing.T) { tokensForAnotherPurpose(t, w) })
		t.Run("of an ended session", func(t *testing.T) { tokensOfAnEndedSession(t, w, keys) })
	})
}

func tokensPlaces(t *testing.T, w, other *tokensSites) []*tokensPlace {
	t.Helper()
	port := fmt.Sprintf("%s:%d", tokensShop, w.port)
	places := []*tokensPlace{
		w.place(t, "the shop", tokensShop, "__Host-wechat_session"),
		w.place(t, "another origin of the shop", "www.example.org", "__Host-wechat_session"),
		w.place(t, "another site", tokensBlog, "__Host-wechat_session"),
		w.place(t, "a site on http", tokensPlain, "wechat_session"),
		w.place(t, "another account on another port", port, fmt.Sprintf("__Host-other_%d", w.port)),
		other.place(t, "another gateway's shop", tokensShop, "__Host-wechat_session"),
	}
	places[4].edge.port = w.port
	for i, p := range places {
		user := fmt.Sprintf("user%d", i)
		of, app := w, appID
		if i == 4 {
			app = tokensOtherApp
		}
		if i == 5 {
			of = other
		}
		of.sim.AddUser(wechattest.User{ID: user})
		p.token, p.who = of.login(t, p.page(), user), of.sim.OpenID(app, user)
	}
	// One origin, one issuer, one host: behind a mapped port this differs from the shop in its account alone.
	mapped := w.place(t, "another account at the shop's origin", tokensShop, "__Host-other")
	mapped.edge.port = w.port
	s := newTokensSession("https://"+tokensShop, "oMapped")
	s.AppID = tokensOtherApp
	mapped.token, mapped.who = tokensKeysOf(t, w.gateway, places[0].token).session(t, s), "oMapped"
	return append(places, mapped)
}

// A session is its user's at its own site, origin, account and gateway, and nothing at any other, remembered
// as verified or not. The places differ in one thing each.
func tokensOfOthers(t *testing.T, places []*tokensPlace) {
	seed := uint64(time.Now().UnixNano())
	order := rand.New(rand.NewPCG(seed, 1))
	type visit struct{ token, at *tokensPlace }
	var visits []visit
	for range 2 {
		for _, p := range places {
			for _, q := range places {
				visits = append(visits, visit{p, q})
			}
		}
	}
	order.Shuffle(len(visits), func(i, j int) { visits[i], visits[j] = visits[j], visits[i] })
	for _, v := range visits {
		want := tokensNobody
		if v.token == v.at {
			want = v.at.who
		}
		t.Run("a session of "+v.token.name+" at "+v.at.name, func(t *testing.T) {
			v.at.edge.judge(t, v.at.host, "Cookie: "+v.at.cookie+"="+v.token.token+"\r\n", want)
			v.token.edge.judge(t, v.token.host, "Cookie: "+v.token.cookie+"="+v.token.token+"\r\n", v.token.who)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}
