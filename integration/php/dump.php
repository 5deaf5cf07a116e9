<?php
// 调试：原样输出 $_SERVER
header('Content-Type: application/json; charset=utf-8');
echo json_encode(array('server' => $_SERVER, 'cookie' => $_COOKIE, 'body' => file_get_contents('php://input')));
