package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/ticket"
	"github.com/caddy-wechat/caddy-wechat/wechat"
)

var (
	ticketPath = regexp.MustCompile(`^/ticket/([0-9a-f]{32})/?$`)
	userPath   = regexp.MustCompile(`^/user/([0-9A-Za-z_-]+)/([0-9A-Za-z_-]+)/?$`)
)

// serveTicket is GET /ticket/<ticket>: it hands out whom the ticket stands for. All that is no success is an
// empty 404, since clients of old take any 200 for a user.
func (b *Broker) serveTicket(w http.ResponseWriter, r *http.Request, tkt string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Add("Vary", "Origin")
	if r.Method != http.MethodGet {
		h.Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if isEarlyData(r) {
		w.WriteHeader(http.StatusTooEarly)
		return
	}
	v, err := ticket.Voucher{}, ticket.ErrNotFound
	if isPressed(r) { // a browser that fetches ahead, or an image's address, spends nothing
		v, err = b.redeem(r, tkt)
	}
	b.allowOrigin(h, r, v.Client)
	if err != nil {
		b.notFound(w, err)
		return
	}
	if v.Login != "" {
		b.app.gateway.codes.NoteEnd(r.Context(), v.Login, attemptWindow)
	}
	writeBody(w, r, http.StatusOK, newClientUser(v, &v.State))
}

func (b *Broker) redeem(r *http.Request, tkt string) (ticket.Voucher, error) {
	c, ok := b.redeemer(r)
	if !ok || c != nil && b.showsSecret(r, c) {
		return ticket.Voucher{}, ticket.ErrNotFound
	}
	if err := b.redeemableHere(r, tkt); err != nil {
		return ticket.Voucher{}, err
	}
	id := ""
	if c != nil {
		id = c.id
	}
	return b.app.gateway.tickets.RedeemBy(r.Context(), tkt, id)
}

// redeemableHere asks before a public ticket is spent whether its client redeems from where r comes from, whoever
// sent it. Of any other ticket it says nothing.
func (b *Broker) redeemableHere(r *http.Request, tkt string) error {
	for _, c := range b.clients {
		if !c.Public || len(c.networks) == 0 {
			continue
		}
		id, err := b.app.gateway.tickets.PublicClient(r.Context(), tkt)
		switch {
		case errors.Is(err, ticket.ErrNotFound):
			return nil
		case err == nil && b.clients[id] != nil && !b.clients[id].redeemsFrom(r):
			return ticket.ErrNotFound
		}
		return err
	}
	return nil
}

// notFound answers without a body: 404, or 503 where it cannot be told, and may be tried again.
func (b *Broker) notFound(w http.ResponseWriter, err error) {
	if errors.Is(err, ticket.ErrNotFound) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	b.logger.Error("tickets cannot be redeemed: the store is away", zap.Error(err))
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// allowOrigin lets a script of a public client's own pages read the answer: of the ticket's client where it is
// known, else of any, as it says nothing.
func (b *Broker) allowOrigin(h http.Header, r *http.Request, id string) {
	sent := r.Header.Get("Origin")
	if sent == "" {
		return
	}
	origin, err := normalOrigin(sent)
	for _, c := range b.clients {
		if err == nil && c.Public && (id == "" || id == c.id) && c.isOrigin(origin) {
			h.Set("Access-Control-Allow-Origin", sent)
			return
		}
	}
}

// serveUser is GET /user/<appid>/<openid>, of wxauth's V1: a client with tokens reads the profile of somebody
// who logged in through it.
func (b *Broker) serveUser(w http.ResponseWriter, r *http.Request, appID, openID string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet {
		h.Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	v, err := b.profile(r, appID, openID)
	if err != nil {
		b.notFound(w, err)
		return
	}
	writeBody(w, r, http.StatusOK, newClientUser(v, nil))
}

func (b *Broker) profile(r *http.Request, appID, openID string) (ticket.Voucher, error) {
	c, ok := b.redeemer(r)
	acc := b.accountOf(appID)
	if !ok || c == nil || len(c.targets) == 0 || acc == nil || !c.uses(acc) {
		return ticket.Voucher{}, ticket.ErrNotFound
	}
	return b.profiles().Read(r.Context(), profileName(acc, c, openID))
}

func (b *Broker) profiles() ticket.Profiles { return b.app.gateway.profiles }

func profileName(acc *account, c *client, openID string) []string {
	return []string{"user", acc.name, c.id, openID}
}

// keepProfile lets the client read the profile later. That it cannot be kept ends no login.
func (b *Broker) keepProfile(ctx context.Context, acc *account, c *client, v ticket.Voucher) {
	if err := b.profiles().Keep(ctx, profileName(acc, c, v.Identity.OpenID), v, c.profileTTL()); err != nil {
		b.logger.Error("a profile could not be kept; its client will not find the user", zap.String("client", c.id), zap.Error(err))
	}
}

// clientUser is a user as clients get to know one, in wxauth's shape. What is not known is null.
type clientUser struct {
	OpenID     string  `json:"openid"`
	UnionID    *string `json:"unionid"`
	Nickname   *string `json:"nickname"`
	Sex        *int    `json:"sex"`
	Language   *string `json:"language"`
	City       *string `json:"city"`
	Province   *string `json:"province"`
	Country    *string `json:"country"`
	HeadImgURL *string `json:"headimgurl"`
	Privilege  *string `json:"privilege"` // a list, as JSON in a string
	Avatar     *string `json:"avatar"`    // the same as headimgurl
	App        string  `json:"app"`
	AppID      string  `json:"appid"` // the same as app
	Scope      string  `json:"scope"`
	State      *string `json:"state"`
}

func newClientUser(v ticket.Voucher, state *string) clientUser {
	id := v.Identity
	u := clientUser{OpenID: id.OpenID, App: id.AppID, AppID: id.AppID, Scope: id.Scope, State: state}
	if id.UnionID != "" {
		u.UnionID = &id.UnionID
	}
	p := v.Profile
	if p == nil || !ticket.ScopeCovers(id.Scope, wechat.ScopeUserInfo) {
		return u
	}
	list, _ := json.Marshal(append([]string{}, p.Privilege...)) // strings always encode
	privilege := string(list)
	u.Nickname, u.HeadImgURL, u.Avatar = &id.Nickname, &id.HeadImgURL, &id.HeadImgURL
	u.Sex, u.City, u.Province, u.Country, u.Privilege = &p.Sex, &p.City, &p.Province, &p.Country, &privilege
	if p.Language != "" {
		u.Language = &p.Language
	}
	return u
}
