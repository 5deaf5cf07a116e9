<?php
define('IN_SHOP', true);
require dirname(__FILE__) . '/config.php';
require dirname(__FILE__) . '/user.php';
require dirname(__FILE__) . '/page.php';
