<?php
require dirname(__FILE__) . '/../includes/init.php';
show_page('我的订单');
