//go:build unix

package main

import (
	"fmt"
	"io"
)

func guideSimulated(w io.Writer, s sites, dir string) {
	fmt.Fprintf(w, `
演示已启动：模拟的微信，任何桌面浏览器都可以用（Safari 不认识 *.localhost，请用 Chrome、Edge 或 Firefox）
The demo runs, with a simulated WeChat, for any desktop browser (Safari does not know *.localhost; take another)

  本站 · bound domain        %s/   静默登录 · silent login, openid only
  另一个域名 · other domain   %s/   头像昵称 · with the profile, across domains
  模拟的微信 · WeChat         %s/   换一个人 · be somebody else
  文件 · files               %s   (日志 · log: caddy.log)

Ctrl-C 结束 · ends it. 在浏览器打开 · Open in your browser:

  %s/
`, s.auth, s.shop, s.weixin, dir, s.auth)
}

func guideTestAccount(w io.Writer, s sites, dir string) error {
	fmt.Fprintf(w, `
测试号模式 · With a test account (测试号)

1. 在微信「接口测试号申请」页 (https://mp.weixin.qq.com/debug/cgi-bin/sandbox?t=sandbox/login) 里：
   体验接口权限表 → 网页服务 → 网页帐号 → 网页授权获取用户基本信息 → 修改 → 授权回调页面域名填：

     %s

   In the console of your test account: 网页授权获取用户基本信息 → 修改 → enter the line above as
   授权回调页面域名 (callback domain), with the port and without http://. Another value gives error 10003.

2. 用这部手机的微信扫描同一页上的测试号二维码并关注，否则微信报 10006。
   With the phone's WeChat, scan the account's own QR code on that page and follow it; 10006 otherwise.

3. 手机与本机在同一局域网，用微信「扫一扫」扫下面的码。
   With the phone in this network, scan this with WeChat:

`, host(s.auth))
	if err := drawQR(w, s.auth+"/"); err != nil {
		return err
	}
	fmt.Fprintf(w, `
文件 · files: %s (日志 · log: caddy.log)
打不开时检查本机防火墙 · if it does not open, look at this machine's firewall. Ctrl-C 结束 · ends it.

  %s/
`, dir, s.auth)
	return nil
}
