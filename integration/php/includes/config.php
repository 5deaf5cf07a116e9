<?php
if (!defined('IN_SHOP')) {
    exit('Access Denied');
}

header('Content-Type: text/html; charset=utf-8');

// 会员表：openid => 会员。老系统一直用 openid 作主键，网关换了也不用改。
$cfg_users = array(
    'oSimA1-lina_0000000000000002'     => array('uid' => 1002, 'level' => 'VIP'),
    'oSimA1-zhangwei_000000000001'     => array('uid' => 1001, 'level' => '普通会员'),
);
